"""Rules for functions that work on each element: channels that meet become the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from bnas.graph.channels import Parts, fixed, freeze, is_fixed, unite
from bnas.graph.rules.table import rule

if TYPE_CHECKING:
    from bnas.graph.trace import Call, Trace


@rule(
    "relu", "relu6", "hardtanh", "silu", "gelu", "sigmoid", "hardsigmoid", "hardswish", "tanh",
    "leaky_relu", "elu", "selu", "celu", "softplus", "softsign", "mish", "logsigmoid",
    "dropout", "dropout2d", "alpha_dropout", "feature_dropout",
    "clone", "contiguous", "detach", "to", "type_as", "float", "double", "half", "bfloat16",
    "neg", "exp", "log", "sqrt", "rsqrt", "abs", "square", "reciprocal", "clamp", "clamp_min", "clamp_max",
    "requires_grad", "positive",
)  # fmt: skip
def unary(trace: Trace, call: Call) -> None:
    """Hands labels on, and what has been added into the value (the activation after a residual sum)."""
    x = call.tensors[0]
    trace.mark(call.out, trace.labels(x), trace.sums(x))


@rule("add", "sub", "mul", "div", "truediv", "true_divide", "multiply", "divide", "maximum", "minimum", "pow")
def binary(trace: Trace, call: Call) -> None:
    """Unites the labels of axes that meet; an axis of size 1 is broadcast and adds nothing."""
    tensors = call.tensors
    if call.get(2, "out") is not None:
        tensors = tensors[:2]
    labels = broadcast(trace, tensors, call.out.ndim, f"{call.name} in {trace.where}")
    sums: frozenset[int] = frozenset()
    if call.name == "add" and call.kwargs.get("alpha", 1) == 1:
        for tensor in tensors:
            if tensor.shape == call.out.shape:
                sums |= trace.sums(tensor) | {trace.token(tensor)}
    trace.mark(call.out, labels, sums)


def broadcast(trace: Trace, tensors: list[Tensor], ndim: int, where: str) -> tuple[Parts, ...]:
    """The labels of the result of combining `tensors` under broadcasting, uniting what meets."""
    result: list[Parts] = []
    for axis in range(-ndim, 0):
        meeting = [
            (tensor.shape[axis], trace.labels(tensor)[axis]) for tensor in tensors if tensor.ndim >= -axis
        ]
        size = max((size for size, _ in meeting), default=1)
        for own, label in meeting:
            if own == 1 < size and not is_fixed(label):
                freeze(label, f"is a single channel that is broadcast by {where}")
        full = [label for own, label in meeting if own == size]
        common = full[0] if full else fixed(1)
        for label in full[1:]:
            common = unite(common, label, where)
        result.append(common)
    return tuple(result)
