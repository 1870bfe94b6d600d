"""Rules for functions that work on each element: channels that meet become the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import Tensor

from bnas.graph.channels import Parts, fixed, freeze
from bnas.graph.lengths import labels_of
from bnas.graph.rules.table import rule
from bnas.graph.state import Value
from bnas.graph.unify import unite

if TYPE_CHECKING:
    from bnas.graph.trace import Call, Trace


@rule(
    "relu", "relu6", "hardtanh", "silu", "gelu", "sigmoid", "hardsigmoid", "hardswish", "tanh", "erf", "sin", "cos",
    "leaky_relu", "rrelu", "elu", "selu", "celu", "softplus", "softsign", "mish", "logsigmoid", "log_sigmoid",
    "hardshrink", "softshrink", "tanhshrink", "threshold",
    "neg", "negative", "exp", "exp2", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt", "abs", "absolute",
    "square", "reciprocal", "sign", "round", "floor", "ceil", "trunc", "nan_to_num", "isnan", "isinf", "isfinite",
    "logical_not", "bitwise_not", "invert", "positive", "signbit", "frac", "atan", "asin", "acos", "tan",
    "sinh", "cosh", "erfc", "erfinv", "lgamma", "digamma", "angle", "conj", "resolve_conj", "resolve_neg",
    "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "zero", "fill", "bernoulli",
    "normal", "uniform", "real", "imag",
)  # fmt: skip
def unary(trace: Trace, call: Call) -> None:
    """Hands labels on, and what has been added into the value (the activation after a residual sum)."""
    x = call.tensors[0]
    trace.mark(call.results[0], trace.labels(x), trace.sums(x))


@rule(
    "clone", "deepcopy", "contiguous", "detach", "data", "alias", "to", "type", "type_as", "cpu", "cuda", "pin_memory",
    "requires_grad",
    "float", "double", "half", "bfloat16", "long", "int", "bool",
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "feature_alpha_dropout",
)  # fmt: skip
def same(trace: Trace, call: Call) -> None:
    """Hands the very value on, perhaps as another object."""
    x = call.tensors[0]
    trace.mark(call.results[0], trace.labels(x), trace.sums(x), trace.value(x))


# What a runtime may run together with the layer before it, by the names that functions have here.
POINTWISE = frozenset((
    "relu", "relu6", "hardtanh", "silu", "gelu", "sigmoid", "hardsigmoid", "hardswish", "tanh", "leaky_relu", "elu",
    "selu", "celu", "softplus", "mish", "clamp", "clip", "clamp_min", "clamp_max",
    "add", "sub", "mul", "multiply", "div", "divide", "truediv", "true_divide",
))  # fmt: skip

_BINARY = (
    "add", "sub", "subtract", "rsub", "mul", "multiply", "div", "divide", "truediv", "true_divide", "floordiv",
    "floor_divide", "remainder", "mod", "fmod", "maximum", "minimum", "fmax", "fmin", "pow", "float_power", "atan2",
    "where", "masked_fill", "lerp", "addcmul", "addcdiv", "eq", "ne", "lt", "le", "gt", "ge", "less", "greater",
    "logical_and", "logical_or", "logical_xor", "and", "or", "xor", "copy", "xlogy", "hypot", "broadcast_tensors",
    "clamp", "clip", "clamp_min", "clamp_max", "logaddexp", "logaddexp2", "copysign", "heaviside",
    "bitwise_and", "bitwise_or",
    "bitwise_xor", "complex", "polar", "not_equal", "greater_equal", "less_equal",
)  # fmt: skip


@rule(*_BINARY)
def binary(trace: Trace, call: Call) -> None:
    """Unites the labels of axes that meet; an axis of size 1 is broadcast and adds nothing."""
    out = call.kwargs.get("out")
    tensors = [tensor for tensor in call.tensors if tensor is not out]
    if call.name == "where" and len(tensors) == 1:  # where(condition) says where it holds
        forget(trace, call, trace.labels(tensors[0]))
        return
    for result in call.results:
        labels = broadcast(trace, tensors, result.ndim, f"{call.name} in {trace.where}")
        trace.mark(result, labels, _sums(trace, call, tensors))


def _sums(trace: Trace, call: Call, tensors: list[Tensor]) -> frozenset[Value]:
    sums: frozenset[Value] = frozenset()
    if call.name == "add" and call.kwargs.get("alpha", 1) == 1 and len(tensors) == 2:
        for tensor in tensors:
            if tensor.shape == call.out.shape:
                sums |= trace.sums(tensor) | {trace.value(tensor)}
    return sums


def broadcast(trace: Trace, tensors: list[Tensor], ndim: int, where: str) -> tuple[Parts, ...]:
    """The labels of the result of combining `tensors` under broadcasting, uniting what meets."""
    result: list[Parts] = []
    for axis in range(-ndim, 0):
        meeting = [
            (tensor.shape[axis], trace.labels(tensor)[axis]) for tensor in tensors if tensor.ndim >= -axis
        ]
        size = max((size for size, _ in meeting), default=1)
        full = [label for own, label in meeting if own == size]
        common = full[0] if full else fixed(1)
        for label in full[1:]:
            common = unite(common, label, where)
        result.append(common)
    return tuple(result)


@rule("zeros", "ones", "empty", "full", "rand", "randn", "new_zeros", "new_ones", "new_full", "new_empty")
def constant(trace: Trace, call: Call) -> None:
    """A new tensor of given sizes: an axis whose length was taken from another has the label of that."""
    first = 1 if call.name.startswith("new") else 0
    sizes = call.args[first:] or (call.kwargs.get("size", ()),)
    asked = labels_of(sizes[:1] if call.name.endswith("full") else sizes, call.out.ndim)
    trace.mark(call.out, [label or fixed(n) for n, label in zip(call.out.shape, asked, strict=True)])


@rule("new_tensor", "meshgrid")
def of_fixed_size(trace: Trace, call: Call) -> None:
    """Nothing of what goes in passes through."""
    for result in call.results:
        trace.mark(result, [fixed(size) for size in result.shape])


def forget(trace: Trace, call: Call, arguments: Iterable[Parts], reason: str | None = None) -> None:
    """Freeze everything that goes into a function that is not understood; what comes out is fixed."""
    for label in arguments:
        freeze(label, f"{reason or f'passes through {call.name}, which has no rule,'} in {trace.where}")
    for result in call.results:
        trace.mark(result, tuple(fixed(size) for size in result.shape))
