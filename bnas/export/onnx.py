"""ONNX: a torch module, or a network with quantizers (QDQ), as one .onnx file; and its run in ONNX Runtime.

The exporter that traces is taken: it needs no package beside onnx and takes a second for a ResNet-50, the one on
torch.export ten.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from bnas.errors import ConfigError, ExportError, require
from bnas.export.artefact import Artefact, ExportConfig, Quantized, digest_of, exporter
from bnas.export.batching import Asked, Takes
from bnas.export.texts import said, said_by_onnxruntime
from bnas.export.traceable import traceable
from bnas.files import write_bytes

OPSET = 17
_OPSETS = range(13, 21)  # scales for each channel came with 13; the exporter that traces stops at 20
_EXTRA = "onnxruntime"
INPUT, BATCH = "images", "batch"  # the name of the first input, and of its first dimension


@dataclass(frozen=True, kw_only=True)
class Onnx(ExportConfig):
    """An .onnx file of opset `opset`; INT8 networks have pairs of QuantizeLinear and DequantizeLinear."""

    kind: Literal["onnx"] = "onnx"
    opset: int = OPSET

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.opset not in _OPSETS:
            raise ConfigError(f"opset: expected {_OPSETS[0]} to {_OPSETS[-1]}, got {self.opset}")


def to_onnx(
    module: nn.Module, example: Tensor, *, opset: int = OPSET, batch: int | None = None, fused: bool = True
) -> Any:
    """`module`, in eval mode, as an `onnx.ModelProto` in FP32 that takes `batch` images (None: any number).

    `example` is one input [n, C, H, W]. `fused`: batch norms become part of the convolutions before them; if not, the
    constants are the parameters of the module.

    Raises:
        ExportError: the exporter has no rule for an operation, or the module cannot be traced.
        MissingPackageError: the package onnx is not installed.
    """
    onnx = require("onnx", _EXTRA)
    if any(layer.training for layer in module.modules()):
        raise ExportError("the network is in training mode; call .eval() on it first")
    module, image = traceable(module), example[:1]
    written: Any = io.BytesIO()
    # of a module in eval mode PRESERVE writes the same operations, but leaves out the pass that fuses
    mode = torch.onnx.TrainingMode.EVAL if fused else torch.onnx.TrainingMode.PRESERVE
    with torch.no_grad(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        # torch calls this exporter deprecated; what a tracer warns of (Python branches on values) is settled by
        # comparing the artefact with the module. Of an operation it does not know, it prints the whole graph.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", TracerWarning)
        try:
            torch.onnx.export(
                module,
                (image if batch is None else image.repeat(batch, *(1,) * (image.ndim - 1)),),
                written,
                dynamo=False,
                opset_version=opset,
                training=mode,
                input_names=[INPUT],
                dynamic_axes={INPUT: {0: BATCH}} if batch is None else None,
            )
        except Exception as error:  # whatever the module's own forward raises, besides the exporter's errors
            raise ExportError(f"torch cannot write the network as ONNX: {said(error)}") from error
    model = onnx.load_from_string(written.getvalue())
    _own_constants(model.graph)
    return model


@exporter(Onnx)
def export_onnx(model: nn.Module | Quantized, config: Onnx, path: Path, example: Tensor) -> Artefact:
    """Write the network to `path`, whose suffix is .onnx (added where missing); onnx's own checker has passed it."""
    path = path if path.suffix == ".onnx" else path.with_name(f"{path.name}.onnx")
    onnx = require("onnx", _EXTRA)
    if not isinstance(model, Quantized):
        network = to_onnx(model, example, opset=config.opset, batch=config.batch)
    elif model.runtime == "onnx":
        network = with_batch(model.model, config.batch)
    else:
        raise ExportError(
            f"export: onnx takes torch modules and networks quantized in ONNX form (quantize.kind=onnx_qdq), "
            f"this one was quantized for {model.runtime}"
        )
    try:
        onnx.checker.check_model(network, full_check=True)
        data = network.SerializeToString(deterministic=True)
    except Exception as error:  # of the checker, of shape inference, or of protobuf: more than 2 GB
        raise ExportError(f"export: onnx refuses the network: {said(error)}") from error
    write_bytes(path, data)
    return Artefact(
        path=str(path),
        format="onnx",
        precision=model.precision if isinstance(model, Quantized) else "f32",
        digest=digest_of(data),
        size_bytes=len(data),
    )


def load_onnx(
    path: Path, asked: Asked, content: bytes | None = None
) -> tuple[Takes, Callable[[Tensor], Any]]:
    """The network in ONNX Runtime, for `bnas.export.run.load`; `content`: instead of that of the file."""
    ort = require("onnxruntime", _EXTRA)
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors; they come as exceptions besides
    try:
        session = ort.InferenceSession(content or str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ExportError(
            f"{path}: ONNX Runtime {ort.__version__} cannot load it: {said_by_onnxruntime(error)}"
        ) from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ExportError(f"{path}: expected a network with one input, it has {len(inputs)}")
    first = inputs[0]
    takes = Takes(
        shape=tuple(size if isinstance(size, int) else None for size in first.shape),
        u8=first.type == "tensor(uint8)",
    )

    def step(images: Tensor) -> Any:
        try:
            return session.run(None, {first.name: images.numpy()})
        except Exception as error:
            raise RuntimeError(said_by_onnxruntime(error)) from error

    return takes, step


def with_batch(network: Any, batch: int | None) -> Any:
    """A copy of an `onnx.ModelProto` in which first dimensions of inputs and outputs that are open have this size."""
    model = require("onnx", _EXTRA).ModelProto()
    model.CopyFrom(network)
    if batch is None:
        return model
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param == BATCH:
                size.dim_value = batch
    return model


def _own_constants(graph: Any) -> None:
    """Constants that are equal are written once, with copies by `Identity`; make each a constant of its own.

    Quantizers want biases to be constants, and one that a convolution reads has other scales than one that is added.
    """
    constants = {value.name: value for value in graph.initializer}
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in constants and node.output[0] not in outputs:
            own = graph.initializer.add()
            own.CopyFrom(constants[node.input[0]])
            own.name = node.output[0]
            constants[own.name] = own
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
