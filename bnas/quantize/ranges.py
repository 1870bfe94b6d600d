"""Ranges that NNCF lets begin below zero where no value is: for such OpenVINO has slower kernels.

Of a channel that is zero in all calibration images, as many are in trained depthwise layers, NNCF makes a small range
around zero. One of these in a tensor is enough for OpenVINO to leave its fastest kernels of depthwise convolutions.
Behind a ReLU the lower half of the range holds nothing (docs/decisions/0021).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bnas.export.openvino_runtime import openvino

_NEVER_NEGATIVE = {"Relu", "Sigmoid", "HSigmoid"}
_KEEP_THE_SIGN = {"MaxPool", "AvgPool", "Reshape"}
_LOWS = (1, 3)  # of a FakeQuantize the inputs with the lower bounds: what is clipped to, and what comes out


def begin_at_zero(model: Any) -> int:
    """Let the ranges of what is never negative begin at 0; returns of how many tensors they did not.

    The ranges' upper ends stay, and so does what is computed from any channel that had not begun below zero.
    """
    changed = 0
    for node in model.get_ops():
        if node.get_type_name() != "FakeQuantize" or not _never_negative(node.input_value(0).get_node()):
            continue
        bounds = [_constant(node, port) for port in range(1, 5)]
        if any(own is None for own in bounds) or (bounds[1] <= 0).any() or not (bounds[0] < 0).any():
            continue
        for port in _LOWS:
            low = openvino().op.Constant(np.asarray(np.maximum(bounds[port - 1], 0), dtype=np.float32))
            node.input(port).replace_source_output(low.output(0))
        changed += 1
    return changed


def _never_negative(node: Any) -> bool:
    kind = node.get_type_name()
    if kind == "Clamp":
        return float(node.get_attributes()["min"]) >= 0
    if kind in _KEEP_THE_SIGN:
        return _never_negative(node.input_value(0).get_node())
    return kind in _NEVER_NEGATIVE


def _constant(node: Any, port: int) -> Any:
    source = node.input_value(port).get_node()
    return np.asarray(source.data) if source.get_type_name() == "Constant" else None
