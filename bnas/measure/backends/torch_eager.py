"""PyTorch on the CPU, layer by layer, as `model(x)` runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bnas.errors import MeasureError
from bnas.export import Quantized
from bnas.export.batching import all_in_batches, tensors_in
from bnas.export.traceable import traceable
from bnas.measure.backends.inputs import random_input

if TYPE_CHECKING:
    from bnas.measure.hardware import HwConfig
    from bnas.quantize import QuantizeConfig


class TorchRunner:
    """A function of an input that is in place, on `threads` threads."""

    inferences = 1

    def __init__(self, run: Callable[[Tensor], object], image: Tensor, threads: int) -> None:
        self._run, self._image, self._threads = run, image, threads
        self()  # compiles, where there is something to compile

    def __call__(self) -> None:
        with torch.inference_mode(), threads_of_torch(self._threads):
            self._run(self._image)

    def predict(self, images: Tensor) -> Tensor:
        """The first output [n, ...] for any number of images [n, C, H, W]."""
        return self.predict_all(images)[0]

    def predict_all(self, images: Tensor) -> tuple[Tensor, ...]:
        """All outputs, as `predict`."""

        def run(batch: Tensor) -> tuple[Tensor, ...]:
            placed = batch.to(self._image.dtype).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode(), threads_of_torch(self._threads):
                return tuple(output.float().clone() for output in outputs_of(self._run(placed)))

        return all_in_batches(run, images.detach().float().cpu(), len(self._image))


def prepare(network: nn.Module | Quantized | Path, hw: HwConfig, example: Tensor | None) -> TorchRunner:
    """`network`, a module, in the layout that convolutions are fastest in (channels last).

    Raises:
        MeasureError: it is no module, or does not run.
    """
    module, example = module_of(network, example, "torch_eager")
    if any(layer.training for layer in module.modules()):
        raise MeasureError("the network is in training mode; call .eval() on it first")
    module, image = placed(module, hw, example)
    try:
        return TorchRunner(module, image, hw.thread_count)
    except Exception as error:  # whatever the module's own forward raises
        raise MeasureError(f"torch cannot run this network {_how(hw)}: {first_line(error)}") from error


def deploy(hw: HwConfig, quantizer: QuantizeConfig) -> Callable[[nn.Module, Tensor], nn.Module]:
    """The module itself: nothing is converted."""
    return lambda module, example: module


def placed(module: nn.Module, hw: HwConfig, example: Tensor) -> tuple[nn.Module, Tensor]:
    """A copy of the module, and an input of `hw.batch` images, in channels last and in the precision of `hw`."""
    dtype = torch.bfloat16 if hw.precision == "bf16" else torch.float32
    copied: nn.Module = deepcopy(module).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = random_input((hw.batch, *example.shape[1:])).to(dtype)
    return copied.requires_grad_(False), image.contiguous(memory_format=torch.channels_last)


def module_of(
    network: nn.Module | Quantized | Path, example: Tensor | None, backend: str
) -> tuple[nn.Module, Tensor]:
    """`network` and `example`, if they are what a backend of torch can take. Raises MeasureError."""
    if not isinstance(network, nn.Module):
        what = f"the file {network}" if isinstance(network, Path) else f"an {network.precision} network"
        raise MeasureError(f"{backend} runs torch modules, got {what}; files run in openvino and onnxruntime")
    if example is None:
        raise MeasureError(f"an example input is needed to run a torch module in {backend}")
    return traceable(network), example


@contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    """torch computes on `count` threads in here; the number is one for the whole process."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def outputs_of(output: object) -> tuple[Tensor, ...]:
    """All tensors of an output that may be a dictionary or a tuple."""
    found = tensors_in(output)
    if not found:
        raise MeasureError(f"the network's output holds no tensor: {type(output).__name__}")
    return found


def first_line(error: BaseException) -> str:
    """The first line of an error's text, where torch says what it is about."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _how(hw: HwConfig) -> str:
    return f"on {hw.batch} image{'s' if hw.batch > 1 else ''} in {hw.precision}"
