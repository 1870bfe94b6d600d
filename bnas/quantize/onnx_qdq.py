"""Post-training quantization by NNCF on the ONNX graph: pairs of (de)quantizers, QDQ, for ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from bnas.errors import ExportError, require
from bnas.export import Quantized
from bnas.export.onnx import INPUT, OPSET, to_onnx
from bnas.export.openvino_runtime import without_telemetry
from bnas.export.texts import said
from bnas.quantize.calibration import calibration_images
from bnas.quantize.config import quantizer
from bnas.quantize.nncf_backend import quiet
from bnas.quantize.nncf_ignored import ignored_names
from bnas.quantize.nncf_options import Ignored, NncfOptions, nncf_arguments, refusal
from bnas.quantize.nncf_scopes import Call
from bnas.quantize.preprocessing_scopes import without_preprocessing


@dataclass(frozen=True, kw_only=True)
class OnnxQdq(NncfOptions):
    """NNCF's `quantize` on an ONNX network of opset `opset`, with the options of NncfPTQ; for `export=onnx`."""

    kind: Literal["onnx_qdq"] = "onnx_qdq"
    opset: int = OPSET


@quantizer(OnnxQdq)
def quantize_onnx_qdq(
    module: nn.Module, config: OnnxQdq, calibration: Iterable[Tensor], example: Tensor
) -> Quantized:
    """An `onnx.ModelProto` that takes any number of images, with INT8 weights and activations.

    Raises:
        MissingPackageError: nncf, onnx or onnxruntime is not installed.
    """
    ignored = without_preprocessing(config.ignored, module)
    if ignored.scopes:
        raise ExportError(
            "quantize.ignored.scopes: onnx_qdq knows no scopes of NNCF 2; give names, types or patterns"
        )
    with quiet("nncf"), without_telemetry():
        nncf = require("nncf", "openvino")
        require("onnxruntime", "onnxruntime")
        model = to_onnx(module, example, opset=config.opset)
        images = calibration_images(calibration, config.samples, example)
        scope = onnx_scope(nncf, model, module, ignored)
        try:
            quantized = nncf.quantize(
                model,
                nncf.Dataset([{INPUT: image} for image in images]),
                subset_size=len(images),
                ignored_scope=scope,
                **nncf_arguments(nncf, config),
            )
        except Exception as error:  # NNCF has no common class of errors
            raise refusal(error, config, said(error)) from error
    fold_weights(quantized)
    return Quantized(model=quantized, runtime="onnx")


def fold_weights(model: Any) -> None:
    """Put INT8 numbers in the place of FP32 weights that are quantized whenever the network is loaded."""
    arrays = require("onnx.numpy_helper", "onnxruntime")
    graph = model.graph
    values = {value.name: value for value in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or len(node.input) < 3 or not values.keys() >= set(node.input):
            kept.append(node)
            continue
        weights, scale, zero = (arrays.to_array(values[name]) for name in node.input)
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        places = range(weights.ndim)
        shape = (
            [-1 if place in (axis, axis + weights.ndim) else 1 for place in places] if scale.size > 1 else []
        )
        limits = np.iinfo(zero.dtype)
        numbers = np.rint(weights / scale.reshape(shape)) + zero.reshape(shape)
        small = np.clip(numbers, limits.min, limits.max).astype(zero.dtype)
        graph.initializer.append(arrays.from_array(small, node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input} | {value.name for value in graph.output}
    needed = [value for value in graph.initializer if value.name in used]
    del graph.initializer[:]
    graph.initializer.extend(needed)


def onnx_scope(nncf: Any, model: Any, module: nn.Module, ignored: Ignored) -> Any:
    """NNCF's IgnoredScope for `model` (an `onnx.ModelProto` made of `module`); None where nothing is ignored.

    Raises:
        ExportError: a rule names nothing (unless it may), or is no regular expression.
    """
    if not ignored:
        return None
    calls: dict[str, Call] = {}
    before: Counter[tuple[str, str]] = Counter()
    for node in model.graph.node:
        path = module_path(node.name)
        calls[node.name] = Call(path, node.op_type, before[path, node.op_type])
        before[path, node.op_type] += 1
    return nncf.IgnoredScope(names=ignored_names(calls, module, ignored), validate=False)


def module_path(name: str) -> str:
    """`layer1.0.conv1` for the operation `/layer1/layer1.0/conv1/Conv`: a part of a Sequential repeats its name."""
    names: list[str] = []
    before = None
    for part in name.strip("/").split("/")[:-1]:
        names.append(part.removeprefix(f"{before}."))
        before = part
    return ".".join(names)
