"""OpenVINO on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bnas.errors import ExportError, MeasureError
from bnas.export import Quantized, convert
from bnas.export.openvino_ir import save as save_ir
from bnas.export.openvino_runtime import core, last_line, openvino, read_network, run_network_all, set_batch
from bnas.quantize.placement import Placement

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnas.measure.hardware import HwConfig
    from bnas.quantize import QuantizeConfig
    from bnas.space import Precisions

PER_STREAM = 4  # inferences of each stream in one call of the throughput scenario
# One that runs and one that waits, so that a stream need not wait until it is told what comes next.
PER_STREAM_AT_ONCE = 2


class OpenVinoRunner:
    """A compiled network with one request, whose input is filled already."""

    inferences = 1

    def __init__(self, compiled: Any, batch: int) -> None:
        self._request = compiled.create_infer_request()
        self._batch = batch
        fill_inputs(self._request)

    def __call__(self) -> None:
        self._request.infer(share_outputs=True)  # no copy of the outputs, which nobody reads

    def predict(self, images: Tensor) -> Tensor:
        """The first output [n, ...] for any number of images [n, C, H, W]."""
        return self.predict_all(images)[0]

    def predict_all(self, images: Tensor) -> tuple[Tensor, ...]:
        """All outputs, as `predict`."""
        outputs = run_network_all(self._request, images, self._batch)
        fill_inputs(self._request)
        return outputs


class OpenVinoQueue:
    """A compiled network with requests for each of its streams.

    One call starts `PER_STREAM` inferences for each and waits for all, so that nothing of it runs on while
    another network is timed. The wait costs a part of one inference in `PER_STREAM`, to each network alike.
    """

    def __init__(self, compiled: Any, batch: int) -> None:
        streams = int(compiled.get_property("NUM_STREAMS"))
        self._queue = openvino().AsyncInferQueue(compiled, PER_STREAM_AT_ONCE * streams)
        self._request = compiled.create_infer_request()
        self._batch = batch
        self.inferences = PER_STREAM * streams
        for request in self._queue:
            fill_inputs(request)

    def __call__(self) -> None:
        for _ in range(self.inferences):
            self._queue.start_async(share_inputs=True)
        self._queue.wait_all()

    def predict(self, images: Tensor) -> Tensor:
        """The first output [n, ...] for any number of images [n, C, H, W]."""
        return self.predict_all(images)[0]

    def predict_all(self, images: Tensor) -> tuple[Tensor, ...]:
        """All outputs, as `predict`."""
        return run_network_all(self._request, images, self._batch)


def prepare(
    network: nn.Module | Quantized | Path, hw: HwConfig, example: Tensor | None
) -> OpenVinoRunner | OpenVinoQueue:
    """`network` compiled for one inference at a time, or (throughput) for `hw.streams` at once.

    Raises:
        MeasureError: OpenVINO cannot convert, read or compile it.
    """
    try:
        model = _model(network, example)
        set_batch(model, hw.batch)
        compiled = core().compile_model(model, "CPU", _options(hw))
    except ExportError as error:
        raise MeasureError(str(error)) from error
    except RuntimeError as error:
        raise MeasureError(f"OpenVINO cannot run this network: {last_line(error)}") from error
    if hw.scenario == "latency":
        return OpenVinoRunner(compiled, hw.batch)
    if hw.streams and (got := compiled.get_property("NUM_STREAMS")) != hw.streams:
        raise MeasureError(
            f"hw.streams: OpenVINO runs {got} inferences at once on {hw.thread_count} threads, not {hw.streams}"
        )
    return OpenVinoQueue(compiled, hw.batch)


def deploy(hw: HwConfig, quantizer: QuantizeConfig) -> Callable[[nn.Module, Tensor], Quantized]:
    """For int8, quantizers where those of `quantizer` are in a like network; else converted as it is."""
    place = Placement(quantizer).quantize

    def make(module: nn.Module, example: Tensor) -> Quantized:
        try:
            if hw.precision == "int8":
                return place(module, example)
            return Quantized(model=convert(module, example), precision="f32")
        except ExportError as error:
            raise MeasureError(str(error)) from error

    return make


def deploy_mixed(
    hw: HwConfig, quantizer: QuantizeConfig
) -> Callable[[nn.Module, Tensor, Precisions], Quantized]:
    """Quantizers where those of `quantizer` are in a like network with like precisions; `hw` asks for int8."""
    place = Placement(quantizer).quantize

    def make(module: nn.Module, example: Tensor, precisions: Precisions) -> Quantized:
        try:
            return place(module, example, precisions)
        except ExportError as error:
            raise MeasureError(str(error)) from error

    return make


def save(network: nn.Module | Quantized | Path, folder: Path) -> Path:
    """Write network.xml and network.bin into `folder`; returns the path of the .xml."""
    if not isinstance(network, Quantized):
        raise MeasureError("only a network in OpenVINO's own form can be saved; deploy it first")
    path = folder / "network.xml"
    save_ir(network.model.clone(), path)
    return path


def fill_inputs(request: Any) -> None:
    """Put fixed random numbers into the request's inputs."""
    generator = torch.Generator().manual_seed(0)
    for tensor in request.input_tensors:
        tensor.data[:] = torch.randn(tuple(tensor.shape), generator=generator).numpy()


def _options(hw: HwConfig) -> dict[str, Any]:
    """FP32 is asked for by name: without, OpenVINO takes BF16 where the CPU has it."""
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "THROUGHPUT" if hw.scenario == "throughput" else "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if hw.precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": hw.thread_count,
    }
    if hw.scenario == "throughput" and hw.streams:
        options["NUM_STREAMS"] = hw.streams
    return options


def _model(network: nn.Module | Quantized | Path, example: Tensor | None) -> Any:
    if isinstance(network, Path):
        return read_network(network)
    if isinstance(network, Quantized):
        return network.model.clone()
    if example is None:
        raise MeasureError("an example input is needed to run a torch module in OpenVINO")
    return convert(network, example)
