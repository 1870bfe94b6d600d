"""Which tensors of an ONNX network have encodings.

The input, and what every operation makes, but for: what the next operation makes in one go (convolution and ReLU), what
only moves or selects numbers that are on a grid already, and softmax. An operation that a network runs twice, as a ReLU
used in two places, is two operations here, each with an encoding of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from bnas.errors import require

# Pairs of which only the second one's output is quantized.
_TOGETHER = {
    ("Conv", "Relu"), ("Conv", "Clip"), ("ConvTranspose", "Relu"), ("ConvTranspose", "Clip"),
    ("Gemm", "Relu"), ("Add", "Relu"),
}  # fmt: skip
_MOVING = {
    "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "GlobalMaxPool", "Identity",
    "MaxPool", "ReduceMax", "ReduceMin", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose",
    "Unsqueeze",
}  # fmt: skip
# What runtimes compute without rescaling: what comes out has the encoding of what goes in.
_ONE_GRID = {"AveragePool", "Relu", "Resize", "Upsample"}
_CONSTANT = {"Cast", "Constant", "ConstantOfShape", "Range", "Shape"}
SOFTMAX = {"Softmax", "LogSoftmax"}
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """An operation with weights: its tensors' names; no `bias`: None. `grouped`: transposed, in groups."""

    weight: str
    bias: str | None
    input: str
    output: str
    grouped: bool = False


@dataclass(frozen=True, kw_only=True)
class Placement:
    """`activations`: tensors with encodings, in order. `moved`: tensors without, for which another's holds, by name.

    `shared`: of those activations whose encoding has to be that of another one, that. `together`: tensors without
    encodings that only the next one is made of, by name. `modules`: see `Encoded`.
    """

    activations: tuple[str, ...]
    moved: Mapping[str, str]
    shared: Mapping[str, str]
    together: Mapping[str, str]
    layers: tuple[Layer, ...]
    modules: Mapping[str, Mapping[str, str]]

    def grid_of(self, tensor: str) -> str | None:
        """The tensor whose encoding holds for `tensor`, itself or what it was moved or made into; None: no encoding."""
        while tensor in self.together:
            tensor = self.together[tensor]
        tensor = self.moved.get(tensor, tensor)
        return tensor if tensor in self.activations else None


def place(network: Any, module: nn.Module) -> Placement:
    """Where encodings belong in `network`, an `onnx.ModelProto` made of `module`."""
    graph = network.graph
    floats, constants = _floats(network), {value.name for value in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(value.name for value in graph.output)
    next_of = {name: node for node in graph.node for name in node.input}
    activations = [value.name for value in graph.input if value.name in floats]
    moved: dict[str, str] = {}
    together: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in _CONSTANT | SOFTMAX or (node.op_type == "Gather" and node.input[0] in constants):
            continue
        source = node.input[0] if node.input else ""
        for name in node.output:
            if name not in floats:
                continue
            if _moves(node, constants):
                if moved.get(source, source) in activations:
                    moved[name] = moved.get(source, source)
            elif readers[name] == 1 and name in next_of and _with_next(node, next_of[name], constants):
                together[name] = next_of[name].output[0]
            else:
                activations.append(name)
    placement = Placement(
        activations=tuple(activations),
        moved=moved,
        shared=_shared(graph, activations, moved, readers),
        together=together,
        layers=tuple(_layers(graph, constants, next_of, together)),
        modules={},
    )
    return Placement(**{**vars(placement), "modules": _modules(graph, module, placement)})


def _shared(
    graph: Any, activations: Collection[str], moved: Mapping[str, str], readers: Mapping[str, int]
) -> dict[str, str]:
    """What is concatenated, and read by nothing else, shares the encoding of the whole; see also `_ONE_GRID`."""
    leaders: dict[str, str] = {}

    def leader(name: str) -> str:
        while name in leaders:
            name = leaders[name]
        return name

    once = {value.name for value in graph.input if readers[value.name] == 1}
    for node in graph.node:
        for name in node.output:
            if readers[name] == 1 and (name not in moved or node.input[0] in once):
                once.add(name)
        output = node.output[0]
        if output not in activations:
            continue
        if node.op_type == "Concat":
            pairs = [(moved.get(name, name), output) for name in node.input if name in once]
        else:
            pairs = [(output, moved.get(name, name)) for name in node.input[:1] if node.op_type in _ONE_GRID]
        for follower, followed in pairs:
            if {follower, followed} <= set(activations) and leader(follower) != leader(followed):
                leaders[leader(follower)] = leader(followed)
    return {name: leader(name) for name in leaders}


def _floats(network: Any) -> set[str]:
    onnx = require("onnx", "onnxruntime")
    graph = onnx.shape_inference.infer_shapes(network).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    constants = {value.name for value in graph.initializer}
    return {
        value.name for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    } - constants


def _moves(node: Any, constants: Collection[str]) -> bool:
    if node.op_type == "Pad":  # with zeros, which are on every grid, unless another number is given
        return len(node.input) < 3 or not node.input[2]
    return node.op_type in _MOVING


def _with_next(node: Any, following: Any, constants: Collection[str]) -> bool:
    if (node.op_type, following.op_type) == ("MatMul", "Add"):  # a linear layer on more than two axes
        return node.input[1] in constants and any(name in constants for name in following.input)
    if following.op_type == "Clip" and following.input[0] != node.output[0]:
        return False
    return (node.op_type, following.op_type) in _TOGETHER


def _layers(
    graph: Any, constants: Collection[str], next_of: Mapping[str, Any], together: Mapping[str, str]
) -> list[Layer]:
    layers = []
    for node in graph.node:
        if node.op_type not in _WEIGHTED or node.input[1] not in constants:
            continue
        output = node.output[0]
        bias = node.input[2] if len(node.input) > 2 and node.input[2] in constants else None
        if node.op_type == "MatMul" and output in together:
            bias = next(name for name in next_of[output].input if name in constants)
        groups = next((x.i for x in node.attribute if x.name == "group"), 1)
        layers.append(
            Layer(
                weight=node.input[1],
                bias=bias,
                input=node.input[0],
                output=output,
                grouped=node.op_type == "ConvTranspose" and groups > 1,
            )
        )
    return layers


def _modules(graph: Any, module: nn.Module, placement: Placement) -> dict[str, dict[str, str]]:
    """Tensors that are the output, or the input that is the network's, of one module that is called once."""
    leaves = {path for path, layer in module.named_modules() if path and not any(layer.children())}
    inputs = {value.name for value in graph.input}
    calls: dict[str, list[Any]] = {}
    for node in graph.node:
        calls.setdefault(node.name.rpartition("/")[0], []).append(node)
    found: dict[str, dict[str, str]] = {}
    times = Counter(module_of(scope, leaves) for scope in calls)
    for scope, nodes in calls.items():
        path = module_of(scope, leaves)
        if path is None or times[path] > 1:
            continue
        output, source = nodes[-1].output[0], next(iter(nodes[0].input), "")
        sides = {"input": source} if source in inputs & set(placement.activations) else {}
        if output in placement.activations:
            sides["output"] = output
        if sides:
            found[path] = sides
    return found


def module_of(scope: str, known: Collection[str]) -> str | None:
    """`layer1.0.relu` for `/layer1/layer1.0/relu` and, of its second call, `/layer1/layer1.0/relu_1`; None: none of
    those known.
    """
    names: list[str] = []
    before = None
    for part in scope.strip("/").split("/"):  # a part of a Sequential repeats the name of that
        names.append(part.removeprefix(f"{before}."))
        before = part
    path = ".".join(names)
    if path in known:
        return path
    stem, _, number = path.rpartition("_")
    return stem if number.isdigit() and stem in known else None
