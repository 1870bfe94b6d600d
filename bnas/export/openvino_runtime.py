"""Running networks in OpenVINO on this machine's CPU, at the precision that was asked for."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from bnas.errors import ExportError, require
from bnas.export.batching import all_in_batches

_IR_VERSIONS = (10, 11)


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Nothing that OpenVINO or NNCF does in here is told to anyone.

    Imported in here, they find no `openvino_telemetry` and use a stub for good. In a program that imported
    them before, messages are dropped for as long as this lasts.
    """
    if "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importing it: ImportError
        try:
            yield
        finally:
            del sys.modules["openvino_telemetry"]
    elif sys.modules["openvino_telemetry"] is None:  # within another one of these
        yield
    else:
        sender = importlib.import_module("openvino_telemetry.utils.sender").TelemetrySender
        usual, sender.send = sender.send, lambda *_: None
        try:
            yield
        finally:
            sender.send = usual


@cache
def openvino() -> ModuleType:
    """The `openvino` package. Raises MissingPackageError when it is not installed."""
    with without_telemetry():
        return require("openvino", "openvino")


@cache
def core() -> Any:
    """The one `openvino.Core` of this process; loading the CPU plugin anew costs time."""
    return openvino().Core()


def read_network(path: Path | str) -> Any:
    """The `openvino.Model` in an IR file, or in a file of TensorFlow or TensorFlow Lite.

    Raises:
        ExportError: the file is missing, damaged, or of a version that OpenVINO does not read.
    """
    path = Path(path)
    if path.suffix == ".xml" and path.exists():
        _check_ir(path)
    try:
        return core().read_model(os.fspath(path))
    except RuntimeError as error:
        reason = f"cannot be read: {last_line(error)}" if path.exists() else "does not exist"
        if "Unable to read the model" in str(error):
            reason = "cannot be read: it is damaged, or no network that OpenVINO knows"
        elif "weights" in reason and "bin file" in reason:
            weights = path.with_suffix(".bin")
            what = "cut off" if weights.exists() else "missing"
            reason = f"cannot be read: {weights.name} is {what}; export it again"
        raise ExportError(f"{path} {reason}") from error


def _check_ir(path: Path) -> None:
    """Of what is no IR OpenVINO complains on the terminal, trying every other format."""
    with path.open("rb") as file:
        head = re.search(rb'<net\b[^>]*\bversion="(\d+)"', file.read(4096))
    if head is None:
        raise ExportError(f"{path} cannot be read: it is damaged, or no OpenVINO IR")
    if int(head[1]) not in _IR_VERSIONS:
        known = " and ".join(map(str, _IR_VERSIONS))
        raise ExportError(
            f"{path} is OpenVINO IR of version {int(head[1])}, OpenVINO {openvino().__version__.partition('-')[0]} "
            f"reads versions {known}; export it again"
        )


def set_batch(model: Any, batch: int | None) -> None:
    """Make `model` take inputs of `batch` images (None: of any number).

    Raises:
        ExportError: the network has another batch size built in.
    """
    for inputs in model.inputs:
        shape = inputs.partial_shape
        if shape.is_static and shape[0].get_length() == batch:
            continue
        wanted = [-1 if batch is None else batch, *list(shape)[1:]]
        try:
            model.reshape({inputs: openvino().PartialShape(wanted)})
        except RuntimeError as error:
            raise ExportError(
                f"the network cannot take {'any number of' if batch is None else batch} images at once: "
                f"{last_line(error)}"
            ) from error


def compile_network(
    model: Any,
    *,
    threads: int = 0,
    precision: Literal["f32", "bf16"] = "f32",
    hint: Literal["LATENCY", "THROUGHPUT"] = "LATENCY",
) -> Any:
    """`model` (an `openvino.Model`) compiled for this CPU; `threads` 0 leaves their number to OpenVINO.

    `precision` is that of every layer that is not INT8. Without it OpenVINO takes BF16 where the CPU has it,
    and FP32 networks would be neither exact nor timed as FP32.
    """
    options: dict[str, Any] = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": precision}
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    return core().compile_model(model, "CPU", options)


def run_network(request: Any, images: Tensor, batch: int | None) -> Tensor:
    """The first of what `run_network_all` gives.

    Raises:
        ExportError: it cannot be run on images of this shape.
    """
    return run_network_all(request, images, batch)[0]


def run_network_all(request: Any, images: Tensor, batch: int | None) -> tuple[Tensor, ...]:
    """All outputs for `images` [n, C, H, W], by an `openvino.InferRequest` that takes `batch` at a time.

    A last, smaller batch is filled up with copies of its last image.

    Raises:
        ExportError: it cannot be run on images of this shape.
    """

    def run(chunk: Tensor) -> tuple[Tensor, ...]:
        found = request.infer([chunk.numpy()])
        return tuple(torch.from_numpy(found[place].copy()) for place in range(len(found)))

    try:
        return all_in_batches(run, images.detach().float().cpu(), batch)
    except RuntimeError as error:
        raise ExportError(
            f"the network cannot be run on images {list(images.shape)}: {last_line(error)}"
        ) from error


def batch_of(model: Any) -> int | None:
    """How many images the network (an `openvino.Model` or a compiled one) takes at once; None: any number."""
    first = model.inputs[0].partial_shape[0]
    return int(first.get_length()) if first.is_static else None


def last_line(error: BaseException) -> str:
    """The last line of an error's text, where OpenVINO says what it is about."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
