"""PyTorch on a CUDA device, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bnas.errors import MeasureError
from bnas.export import Quantized
from bnas.export.batching import all_in_batches
from bnas.measure.backends.torch_eager import deploy, first_line, module_of, outputs_of, placed

if TYPE_CHECKING:
    from bnas.measure.hardware import HwConfig

__all__ = ["deploy", "prepare"]

PER_STREAM = 8  # inferences of each stream in one call of the throughput scenario


class CudaRunner:
    """A module on the device, its input in place, launched into one stream or several.

    The clock that times networks is the host's: a call ends when an event behind its last kernel has come to
    pass, so it holds the launches too, as a user waits for them.
    """

    def __init__(self, module: nn.Module, image: Tensor, streams: int, per_stream: int) -> None:
        self._module, self._image = module, image
        cuda: Any = torch.cuda
        self._streams = [cuda.Stream(image.device) for _ in range(streams)]
        self._events = [cuda.Event() for _ in range(streams)]
        self._per_stream = per_stream
        self.inferences = streams * per_stream
        torch.cuda.synchronize(image.device)
        self()

    def __call__(self) -> None:
        with torch.inference_mode(), exact():
            for _ in range(self._per_stream):
                for stream in self._streams:
                    with torch.cuda.stream(stream):
                        self._module(self._image)
        for event, stream in zip(self._events, self._streams, strict=True):
            event.record(stream)
        for event in self._events:
            event.synchronize()

    def predict(self, images: Tensor) -> Tensor:
        """The first output [n, ...] for any number of images [n, C, H, W]."""
        return self.predict_all(images)[0]

    def predict_all(self, images: Tensor) -> tuple[Tensor, ...]:
        """All outputs, as `predict`."""

        def run(batch: Tensor) -> tuple[Tensor, ...]:
            moved = batch.to(self._image.device, self._image.dtype)
            with torch.inference_mode(), exact():
                output = self._module(moved.contiguous(memory_format=torch.channels_last))
            return tuple(own.float().cpu() for own in outputs_of(output))

        return all_in_batches(run, images.detach().float().cpu(), len(self._image))


def prepare(network: nn.Module | Quantized | Path, hw: HwConfig, example: Tensor | None) -> CudaRunner:
    """`network`, a module, on the current CUDA device, in channels last; FP32 is FP32 there, not TF32.

    Raises:
        MeasureError: there is no CUDA device, it is no module, or it does not run.
    """
    module, example = module_of(network, example, "torch_cuda")
    if not torch.cuda.is_available():
        built = "for CUDA, but finds no device" if torch.version.cuda else "without CUDA"
        raise MeasureError(
            f"torch_cuda needs a CUDA device: this torch ({torch.__version__}) is built {built}; see "
            "https://pytorch.org/get-started, or take another hw.backend"
        )
    if any(layer.training for layer in module.modules()):
        raise MeasureError("the network is in training mode; call .eval() on it first")
    module, image = placed(module, hw, example)
    several = hw.scenario == "throughput"
    try:
        return CudaRunner(
            module.cuda(), image.cuda(), (hw.streams or 1) if several else 1, PER_STREAM if several else 1
        )
    except Exception as error:  # whatever the module's own forward raises, besides the device's errors
        raise MeasureError(f"torch cannot run this network on CUDA: {first_line(error)}") from error


@contextmanager
def exact() -> Iterator[None]:
    """FP32 convolutions with all their bits, by the fastest algorithm that cuDNN finds while it warms up."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        yield
