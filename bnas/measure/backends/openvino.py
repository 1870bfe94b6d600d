"""OpenVINO on the CPU."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from bnas.errors import ExportError, MeasureError
from bnas.export import Quantized, convert
from bnas.export.openvino_runtime import (
    compile_network,
    last_line,
    openvino,
    read_network,
    run_network,
    set_batch,
)
from bnas.measure import timing

if TYPE_CHECKING:
    from bnas.measure.hardware import HwConfig

WINDOWS = 5


class OpenVinoRunner:
    """A compiled network with one request, whose input is filled already."""

    def __init__(self, compiled: Any, batch: int) -> None:
        self._request = compiled.create_infer_request()
        self._batch = batch
        fill_inputs(self._request)

    def __call__(self) -> None:
        self._request.infer(share_outputs=True)  # no copy of the outputs, which nobody reads

    def predict(self, images: Tensor) -> Tensor:
        """Outputs [n, ...] for any number of images [n, C, H, W]."""
        outputs = run_network(self._request, images, self._batch)
        fill_inputs(self._request)
        return outputs


def prepare(network: nn.Module | Quantized | Path, hw: HwConfig, example: Tensor | None) -> OpenVinoRunner:
    """`network` compiled for one synchronous inference at a time."""
    return OpenVinoRunner(_compile(network, hw, example, "LATENCY"), hw.batch)


def throughput_per_s(
    network: nn.Module | Quantized | Path, hw: HwConfig, seconds: float, example: Tensor | None
) -> float:
    """Images per second with as many requests at once as OpenVINO's THROUGHPUT hint takes."""
    compiled = _compile(network, hw, example, "THROUGHPUT")
    queue = openvino().AsyncInferQueue(compiled)
    for request in queue:
        fill_inputs(request)

    def window(length: float) -> float:
        # A full queue takes the next request when another is done: starts are completions.
        begin, count = timing.now(), 0
        while (end := timing.now()) - begin < length or count == 0:
            queue.start_async()
            count += hw.batch
        return count / (end - begin)

    window(seconds / WINDOWS)  # fills the queue and warms up
    rates = [window(seconds / WINDOWS) for _ in range(WINDOWS)]
    queue.wait_all()
    return median(rates)


def fill_inputs(request: Any) -> None:
    """Put fixed random numbers into the request's inputs."""
    generator = torch.Generator().manual_seed(0)
    for tensor in request.input_tensors:
        tensor.data[:] = torch.randn(tuple(tensor.shape), generator=generator).numpy()


def _compile(
    network: nn.Module | Quantized | Path,
    hw: HwConfig,
    example: Tensor | None,
    hint: Literal["LATENCY", "THROUGHPUT"],
) -> Any:
    try:
        model = _model(network, example)
        set_batch(model, hw.batch)
        precision: Literal["f32", "bf16"] = "bf16" if hw.precision == "bf16" else "f32"
        return compile_network(model, threads=hw.thread_count, precision=precision, hint=hint)
    except ExportError as error:
        raise MeasureError(str(error)) from error
    except RuntimeError as error:
        raise MeasureError(f"OpenVINO cannot run this network: {last_line(error)}") from error


def _model(network: nn.Module | Quantized | Path, example: Tensor | None) -> Any:
    if isinstance(network, Path):
        return read_network(network)
    if isinstance(network, Quantized):
        return network.model.clone()
    if example is None:
        raise MeasureError("an example input is needed to run a torch module in OpenVINO")
    return convert(network, example)
