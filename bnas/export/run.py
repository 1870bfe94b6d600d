"""Any exported network, run by its file's suffix on images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bnas.errors import ExportError
from bnas.export.batching import Asked, Takes, all_in_batches, tensors_in
from bnas.export.encodings.aimet import load_encodings
from bnas.export.onnx import load_onnx
from bnas.export.openvino_runtime import compile_network, last_line, read_network, set_batch
from bnas.export.torch_export import load_torch_export
from bnas.export.torchscript import load_torchscript

Step = Callable[[Tensor], Any]  # for as many images at once as the network takes; its output, or its outputs
Run = Callable[[Tensor], Tensor]
RunAll = Callable[[Tensor], tuple[Tensor, ...]]


def load(path: Path | str, *, batch: int | None = None, compiled: bool = False, trusted: bool = False) -> Run:
    """A function that gives the first output [n, ...], float32, of the network in `path` for images [n, C, H, W].

    A network that takes a fixed number of images gets that many at a time, the last ones filled up; `batch` asks for
    so many at a time where it can take any. A network with its pre-processing built in takes pixel values from 0 to 255
    (bytes or floats) in the order of channels that it was exported for, still as [n, C, H, W].
    Layers that are not INT8 are computed in FP32. `compiled`: a .pt2 is run as inductor compiles it, which takes a
    compiler and its time, not operation by operation. `trusted`: also a .pt2 that may run code when it is loaded, see
    `bnas.export.pt2_archive`.

    Raises:
        ExportError: the file is missing, damaged, or of a version or kind that cannot be run. The function raises it
            for images of another shape than the network takes, and for what fails in the network itself.
        MissingPackageError: the runtime of this kind of file is not installed.
    """
    run = _loaded(path, Asked(batch=batch, compiled=compiled, trusted=trusted), slice(1))
    return lambda images: run(images)[0]


def load_all(
    path: Path | str, *, batch: int | None = None, compiled: bool = False, trusted: bool = False
) -> RunAll:
    """As `load`, of all outputs: of a detector its scores and its boxes.

    An output whose first size is not the number of images, as of a network with non-maximum suppression built in, is
    right for as many images as the network takes at once, and no more.

    Raises:
        ExportError, MissingPackageError: as `load`.
    """
    return _loaded(path, Asked(batch=batch, compiled=compiled, trusted=trusted), slice(None))


def _loaded(path: Path | str, asked: Asked, wanted: slice) -> RunAll:
    """A function that gives those of the network's outputs."""
    path, batch = Path(path), asked.batch
    if batch is not None and batch < 1:
        raise ExportError(f"batch: expected 1 or more, or None, got {batch}")
    if not path.exists():
        raise ExportError(f"{path} does not exist")
    kind = "saved_model" if path.is_dir() else path.suffix.lower()
    if kind not in LOADERS:
        raise ExportError(
            f"{path}: not a network that can be run; expected a file named {', '.join(SUFFIXES)}"
        )
    takes, step = LOADERS[kind](path, asked)
    if batch is not None and takes.batch not in (None, batch):
        raise ExportError(f"{path} takes {takes.batch} images at once, it was asked to take {batch}")

    def run(images: Tensor) -> tuple[Tensor, ...]:
        fitting = takes.of(images, str(path))
        try:
            return all_in_batches(
                lambda chunk: tensors_in(step(chunk))[wanted], fitting, takes.batch or batch
            )
        except RuntimeError as error:  # of OpenVINO and of torch; ONNX Runtime's are made such
            raise ExportError(
                f"{path} cannot be run on images {list(images.shape)}: {last_line(error)}"
            ) from error

    return run


def load_openvino(path: Path, asked: Asked) -> tuple[Takes, Step]:
    """An IR, or a network of TensorFlow (frozen graph, saved model, .tflite), in OpenVINO."""
    model = read_network(path)
    if len(model.inputs) != 1:
        raise ExportError(f"{path}: expected a network with one input, it has {len(model.inputs)}")
    if asked.batch is not None:
        set_batch(model, asked.batch)
    takes = takes_of(model)
    try:
        request = compile_network(model).create_infer_request()
    except RuntimeError as error:
        raise ExportError(f"{path}: OpenVINO cannot run this network: {last_line(error)}") from error

    def step(images: Tensor) -> list[Tensor]:
        results = request.infer([images.numpy()])
        return [torch.from_numpy(results[place].copy()) for place in range(len(model.outputs))]

    return takes, step


def takes_of(model: Any) -> Takes:
    """What the input of an `openvino.Model` is.

    It is [n, H, W, C] where its layout says so or, without one, where only its last size is 1 or 3.
    """
    parameter = model.get_parameters()[0]
    partial = parameter.get_partial_shape()
    u8 = parameter.get_element_type().get_type_name() == "u8"
    if partial.rank.is_dynamic:
        return Takes(u8=u8)
    shape = tuple(None if size.is_dynamic else int(size.get_length()) for size in partial)
    layout = str(parameter.get_layout()).replace(",", "").strip("[]")
    last = layout == "NHWC" or (
        layout != "NCHW" and len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3)
    )
    if last:
        shape = shape[0], shape[3], shape[1], shape[2]
    return Takes(shape=shape, channels_last=last, u8=u8)


Loader = Callable[[Path, Asked], tuple[Takes, Step]]
LOADERS: dict[str, Loader] = {
    ".xml": load_openvino,
    ".onnx": load_onnx,
    ".encodings": load_encodings,
    ".pt2": load_torch_export,
    ".pt": load_torchscript,
    ".ts": load_torchscript,
    ".pb": load_openvino,
    ".tflite": load_openvino,
    "saved_model": load_openvino,
}
SUFFIXES = tuple(suffix for suffix in LOADERS if suffix.startswith("."))
