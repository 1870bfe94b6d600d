"""An ONNX network with fake quantization in the place of encodings, made of operations that every runtime has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bnas.errors import ExportError, require
from bnas.export.encodings.encoding import Encoding

LOSSLESS = (
    32  # bits of integers in which biases are taken to lose nothing, as the accumulators they are added to
)


def simulated(network: Any, encodings: Iterable[Encoding], *, half_up: bool = False) -> Any:
    """A copy of `network` (an `onnx.ModelProto`) that computes in FP32 with numbers of the grids of `encodings` only.

    Parameters are replaced by such numbers. Behind each other tensor x stands (clip(round(x / scale) − offset) +
    offset)·scale, or a way to float16 and back. Encodings of 32 bits, which are those of biases, change nothing.
    `half_up`: see `Encoding.fake_quantized`.

    Raises:
        ExportError: an encoding is of a tensor that the network does not have, or has scales that do not fit it.
    """
    onnx = require("onnx", "onnxruntime")
    arrays = require("onnx.numpy_helper", "onnxruntime")
    model = onnx.ModelProto()
    model.CopyFrom(network)
    graph = model.graph
    parameters = {value.name: value for value in graph.initializer}
    inputs = {value.name for value in graph.input} - set(parameters)
    made = {name for node in graph.node for name in node.output}
    activations: dict[str, Encoding] = {}
    for encoding in encodings:
        if encoding.bits >= LOSSLESS:
            continue
        if encoding.name in parameters:
            value = parameters[encoding.name]
            _check_channels(encoding, value.dims)
            numbers = encoding.fake_quantized(arrays.to_array(value), half_up=half_up)
            value.CopyFrom(arrays.from_array(numbers, name=encoding.name))
        elif encoding.name in inputs or encoding.name in made:
            activations[encoding.name] = encoding
        else:
            raise ExportError(f"encodings: the network has no tensor '{encoding.name}'")
    nodes = []
    for name in inputs & set(activations):
        nodes += _fake_quantize(onnx, graph, activations[name], name, _aside(name), half_up)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in inputs and name in activations:
                node.input[place] = _aside(name)
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name in activations:
                node.output[place] = _aside(name)
                nodes += _fake_quantize(onnx, graph, activations[name], _aside(name), name, half_up)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return model


def _check_channels(encoding: Encoding, sizes: Sequence[int]) -> None:
    axis, count = encoding.axis, len(encoding.scale)
    if axis is not None and not (-len(sizes) <= axis < len(sizes) and sizes[axis] == count):
        raise ExportError(
            f"encodings: '{encoding.name}' has {count} scales along axis {axis}, the tensor is "
            f"{'×'.join(map(str, sizes))}"
        )


def _aside(name: str) -> str:
    return f"{name}/fp32"


def _fake_quantize(
    onnx: Any, graph: Any, encoding: Encoding, source: str, target: str, half_up: bool
) -> list[Any]:
    """Nodes from the tensor `source` to `target`; their constants are added to `graph`."""
    node, types = onnx.helper.make_node, onnx.TensorProto
    between = f"{target}/{encoding.bits}"
    if encoding.form == "float":
        return [
            node("Cast", [source], [between], f"{between}/to", to=types.FLOAT16),
            node("Cast", [between], [target], f"{between}/back", to=types.FLOAT),
        ]
    if encoding.axis is not None:
        raise ExportError(
            f"encodings: '{encoding.name}' is no parameter and has an encoding for each channel"
        )
    (scale,), (offset,) = encoding.scale, encoding.offset
    # each step reads what the one before it wrote, and one or two constants
    round_off = (
        [("Sub", ["offset"]), ("Add", ["half"]), ("Floor", [])]
        if half_up
        else [("Round", []), ("Sub", ["offset"])]
    )
    steps: list[tuple[str, list[str]]] = [
        ("Div", ["scale"]), *round_off, ("Clip", ["least", "greatest"]), ("Add", ["offset"]), ("Mul", ["scale"])
    ]  # fmt: skip
    constants = {"scale": scale, "offset": offset, "half": 0.5, "least": 0, "greatest": encoding.steps}
    for part in dict.fromkeys(part for _, parts in steps for part in parts):
        value = np.asarray(constants[part], np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(value, f"{between}/{part}"))
    names = [source, *(f"{between}/{place}" for place in range(1, len(steps))), target]
    return [
        node(kind, [before, *(f"{between}/{part}" for part in parts)], [after], f"{between}/{kind}{place}")
        for place, ((kind, parts), before, after) in enumerate(zip(steps, names[:-1], names[1:], strict=True))
    ]
