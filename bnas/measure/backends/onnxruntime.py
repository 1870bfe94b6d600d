"""ONNX Runtime on the CPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Barrier
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bnas.errors import MeasureError, require
from bnas.export import Quantized
from bnas.export.batching import all_in_batches
from bnas.export.onnx import BATCH
from bnas.export.texts import said_by_onnxruntime
from bnas.files import write_bytes
from bnas.measure.backends.inputs import random_input
from bnas.measure.backends.onnx_form import to_int8, to_onnx

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnas.measure.hardware import HwConfig
    from bnas.quantize import QuantizeConfig

PER_STREAM = 4  # inferences of each stream in one call of the throughput scenario


class OnnxRunner:
    """A session with its input and its outputs in place."""

    inferences = 1

    def __init__(self, session: Any, batch: int) -> None:
        self._session, self._batch = session, batch
        self._first = session.get_inputs()[0]
        values = _onnxruntime().OrtValue
        image = values.ortvalue_from_numpy(random_input(_input_shape(self._first, batch)).numpy())
        outputs = session.run(None, {self._first.name: image.numpy()})
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(self._first.name, image)
        for output, value in zip(session.get_outputs(), outputs, strict=True):
            self._binding.bind_ortvalue_output(output.name, values.ortvalue_from_numpy(value))

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def predict(self, images: Tensor) -> Tensor:
        """The first output [n, ...] for any number of images [n, C, H, W]."""
        return self.predict_all(images)[0]

    def predict_all(self, images: Tensor) -> tuple[Tensor, ...]:
        """All outputs, as `predict`."""

        def run(batch: Tensor) -> tuple[Tensor, ...]:
            return tuple(map(torch.from_numpy, self._session.run(None, {self._first.name: batch.numpy()})))

        return all_in_batches(run, images.detach().float().cpu(), self._batch)


class OnnxStreams:
    """Several runners, each in a thread of its own; one call is `PER_STREAM` inferences of each."""

    def __init__(self, runners: list[OnnxRunner]) -> None:
        self._runners = runners
        self.inferences = PER_STREAM * len(runners)
        self._threads = ThreadPoolExecutor(len(runners), thread_name_prefix="stream")
        # All threads are started here and now, so that they run on the CPUs that this one is allowed to run on.
        meet = Barrier(len(runners))
        wait([self._threads.submit(meet.wait) for _ in runners])

    def __call__(self) -> None:
        for done in [self._threads.submit(_several, runner) for runner in self._runners]:
            done.result()

    def predict(self, images: Tensor) -> Tensor:
        """The first output [n, ...] for any number of images [n, C, H, W]."""
        return self._runners[0].predict(images)

    def predict_all(self, images: Tensor) -> tuple[Tensor, ...]:
        """All outputs, as `predict`."""
        return self._runners[0].predict_all(images)


def prepare(
    network: nn.Module | Quantized | Path, hw: HwConfig, example: Tensor | None
) -> OnnxRunner | OnnxStreams:
    """A session on `hw.thread_count` threads, or (throughput) they are shared out among `hw.streams`.

    Without `hw.streams` each thread is a stream of its own, which wastes nothing on waiting.

    Raises:
        MeasureError: the network cannot be converted, or ONNX Runtime cannot load or run it.
        MissingPackageError: the package onnxruntime or onnx is not installed.
    """
    form = _form(network, example)
    if hw.scenario == "latency":
        return _runner(form, hw.thread_count, hw.batch)
    streams = hw.streams or hw.thread_count
    if streams > hw.thread_count:
        raise MeasureError(
            f"hw.streams: expected at most one for each of {hw.thread_count} threads, got {streams}"
        )
    return OnnxStreams([_runner(form, hw.thread_count // streams, hw.batch) for _ in range(streams)])


def deploy(hw: HwConfig, quantizer: QuantizeConfig) -> Callable[[nn.Module, Tensor], Quantized]:
    """An `onnx.ModelProto`; for int8 with quantizers where ONNX Runtime's own tool puts them.

    `quantizer` says how networks are quantized for OpenVINO: it has no say here.
    """

    def make(module: nn.Module, example: Tensor) -> Quantized:
        model = to_onnx(module, example)
        if hw.precision == "int8":
            return Quantized(model=to_int8(model), precision="int8", runtime="onnx")
        return Quantized(model=model, precision="f32", runtime="onnx")

    return make


def save(network: nn.Module | Quantized | Path, folder: Path) -> Path:
    """Write network.onnx into `folder`; returns its path."""
    if not isinstance(network, Quantized):
        raise MeasureError("only a network in ONNX form can be saved; deploy it first")
    path = folder / "network.onnx"
    write_bytes(path, network.model.SerializeToString())
    return path


def _several(runner: OnnxRunner) -> None:
    for _ in range(PER_STREAM):
        runner()


def _runner(form: bytes | str, threads: int, batch: int) -> OnnxRunner:
    ort = _onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors; they come as exceptions besides
    # Threads that wait for work busily would slow down the network that is timed in turn with this one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_free_dimension_override_by_name(BATCH, batch)
    try:
        session = ort.InferenceSession(form, options, providers=["CPUExecutionProvider"])
        return OnnxRunner(session, batch)
    except MeasureError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no common class
        where = f"{form}: " if isinstance(form, str) else ""
        raise MeasureError(
            f"{where}ONNX Runtime cannot run this network: {said_by_onnxruntime(error)}"
        ) from error


def _form(network: nn.Module | Quantized | Path, example: Tensor | None) -> bytes | str:
    _onnxruntime()
    if isinstance(network, Path):
        if not network.exists():
            raise MeasureError(f"{network} does not exist")
        return str(network)
    if isinstance(network, Quantized):
        model = network.model
    elif example is None:
        raise MeasureError("an example input is needed to run a torch module in ONNX Runtime")
    else:
        model = to_onnx(network, example)
    if not hasattr(model, "SerializeToString"):
        raise MeasureError("the network is in the form of another runtime; deploy it for onnxruntime")
    form: bytes = model.SerializeToString()
    return form


def _input_shape(first: Any, batch: int) -> list[int]:
    """The shape of the input at this batch size; a free batch has been set by its name."""
    if first.shape[0] not in (batch, BATCH):
        raise MeasureError(f"the network cannot take {batch} images at once: its input is {first.shape}")
    free = [size for size in first.shape[1:] if not isinstance(size, int)]
    if free:
        raise MeasureError(f"the size of the network's input is open: {first.shape}; only the batch may be")
    return [batch, *first.shape[1:]]


def _onnxruntime() -> ModuleType:
    return require("onnxruntime", "onnxruntime")
