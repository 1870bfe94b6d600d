"""A torch module as an ONNX network, in FP32, or in INT8 for timing only.

Where quantizers go is decided by ONNX Runtime's own tool, as in the networks that its users deploy: 8-bit
activations with a zero point, 8-bit weights with a scale for each output channel. The ranges are made up, which
spares the calibration, and one scale is found for each tensor, then repeated for its channels, because the tool
goes through channels one by one in Python. Neither changes how long the network takes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn

from bnas.errors import ExportError, MeasureError, require
from bnas.export import onnx
from bnas.export.texts import said

_EXTRA = "onnxruntime"
_NOT_NEGATIVE = {"Relu", "Clip", "Sigmoid", "HardSigmoid", "Softmax"}
# The axis of an operation's weights along which each channel has a scale of its own.
_CHANNEL_AXES = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}


def to_onnx(module: nn.Module, example: Tensor) -> Any:
    """`module`, in eval mode, as an `onnx.ModelProto` in FP32 that takes any number of the example's images.

    Raises:
        MeasureError: the exporter has no rule for an operation, or the module cannot be traced.
        MissingPackageError: the package onnx is not installed.
    """
    try:
        return onnx.to_onnx(module, example)
    except ExportError as error:
        raise MeasureError(str(error)) from error


def to_int8(model: Any) -> Any:
    """An `onnx.ModelProto` in FP32 with quantizers: right in its speed, not in its answers.

    Raises:
        MeasureError: ONNX Runtime's tool cannot quantize it.
    """
    with _quiet():
        tool = require("onnxruntime.quantization", _EXTRA)
        calibrate = require("onnxruntime.quantization.calibrate", _EXTRA)
        registry = require("onnxruntime.quantization.registry", _EXTRA)
        qdq = require("onnxruntime.quantization.qdq_quantizer", _EXTRA)
        high = np.array(6.0, np.float32)
        ranges = {onnx.INPUT: calibrate.TensorData(lowest=-high, highest=high)}
        for node in model.graph.node:
            low = 0 * high if node.op_type in _NOT_NEGATIVE else -high
            ranges |= {name: calibrate.TensorData(lowest=low, highest=high) for name in node.output}
        try:
            quantizer = qdq.QDQQuantizer(
                model,
                per_channel=False,
                reduce_range=False,
                weight_qType=tool.QuantType.QInt8,
                activation_qType=tool.QuantType.QUInt8,
                tensors_range=calibrate.TensorsData(tool.CalibrationMethod.MinMax, ranges),
                nodes_to_quantize=[],
                nodes_to_exclude=[],
                op_types_to_quantize=sorted({*registry.QDQRegistry, *registry.QLinearOpsRegistry}),
                extra_options={},
            )
            quantized = quantizer.quantize_model()
        except Exception as error:  # the tool has no common class of errors
            raise MeasureError(f"ONNX Runtime cannot quantize this network: {said(error)}") from error
    _scale_each_channel(quantized.graph)
    return quantized


def _scale_each_channel(graph: Any) -> None:
    """Repeat the one scale of weights, and of the biases beside them, for each output channel."""
    helper, numpy_helper = require("onnx.helper", _EXTRA), require("onnx.numpy_helper", _EXTRA)
    values = {value.name: value for value in graph.initializer}
    done: set[str] = set()
    made_whole = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    for node in list(graph.node):
        axis = _CHANNEL_AXES.get(node.op_type)
        if node.op_type == "Gemm":
            axis = 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
        if axis is None:
            continue
        for name, along in zip(node.input[1:], (axis, 0), strict=False):
            source = made_whole.get(name)
            if source is None or source.input[0] not in values or source.output[0] in done:
                continue  # not quantized, an activation, or another one's weights too
            done.add(source.output[0])
            count = values[source.input[0]].dims[along]
            for port in (1, 2):
                own = numpy_helper.to_array(values[source.input[port]]).reshape(-1)[0]
                repeated = numpy_helper.from_array(np.full(count, own), f"{source.input[port]}_each")
                if repeated.name not in values:
                    values[repeated.name] = repeated
                    graph.initializer.append(repeated)
                source.input[port] = repeated.name
            del source.attribute[:]
            source.attribute.append(helper.make_attribute("axis", along))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that the tool logs at the root logger for each tensor."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
