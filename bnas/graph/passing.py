"""What torch functions do with the channels of a tensor that are followed by number (see `flow`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bnas.graph.state import Call

FOREIGN, ZERO = (
    -1,
    -2,
)  # in the place of a channel's number: something else; a zero, which stays one under any scale


@dataclass(frozen=True)
class Passage:
    """What a tensor carries: `numbers`, of its shape, say of which channel each element is.

    between: by the layer that wrote channels of it, the functions that have computed since, on any way to here.
    """

    numbers: Tensor
    between: dict[str, tuple[str, ...]]


PassageOf = Callable[[Tensor], Passage | None]
Passed = list[Passage | None]

# f(s·x) = s·f(x) for s > 0, element by element. Where x ≥ 0 all of `RECTIFIERS` are the identity.
RECTIFIERS = frozenset(("relu", "leaky_relu", "prelu"))
_SAME = frozenset((
    "clone", "contiguous", "detach", "alias", "data", "to", "type", "type_as", "cpu", "cuda", "float", "double", "half",
    "bfloat16", "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
    "requires_grad", "positive",
))  # fmt: skip
_DROPOUTS = frozenset(name for name in _SAME if "dropout" in name)
_BY_NUMBER = frozenset(("mul", "multiply", "div", "divide", "truediv", "true_divide", "neg", "negative"))
_MOVES = frozenset((
    "reshape", "view", "flatten", "unflatten", "ravel", "permute", "transpose", "swapaxes", "swapdims", "movedim",
    "moveaxis", "squeeze", "unsqueeze", "getitem", "narrow", "select", "index_select", "chunk", "split", "tensor_split",
    "unbind", "cat", "concat", "concatenate", "stack", "expand", "expand_as", "view_as", "reshape_as", "repeat", "tile",
    "flip", "roll", "rot90", "t", "T", "mT", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "pad",
))  # fmt: skip
_VIEWS = ("view", "view_as", "unflatten")
_POOLS = {
    f"{prefix}{kind}_pool{n}d{suffix}": n
    for n in (1, 2, 3)
    for kind in ("max", "avg", "lp")
    for prefix in ("", "adaptive_")
    for suffix in ("", "_with_indices")
}
_RESIZES = frozenset(("interpolate", "upsample"))
_SHAPE_ONLY = frozenset((
    "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "new_zeros", "new_ones",
    "new_full", "new_empty",
))  # fmt: skip
_REDUCTIONS = frozenset(("mean", "sum", "amax", "amin", "max", "min"))

# What, given x + c with c a constant of each channel, gives f(x) + c: averages and choices of elements.
KEEPS_SHIFT = frozenset(("mean", "amax", "amin", "max", "min", *_RESIZES, *_POOLS)) - frozenset(
    name for name in _POOLS if name.startswith("lp")
)


def passed(call: Call, function: Callable[..., Any], passage: PassageOf) -> Passed | None:
    """What each result of a call of `function` carries; None where it does more than channels pass unharmed."""
    carried = [tensor for tensor in call.tensors if passage(tensor) is not None]
    if not call.results or not call.results[0].is_floating_point():
        return None
    found: Passed | None
    if call.name in _SHAPE_ONLY:
        return [None] * len(call.results)
    if call.name in _MOVES:
        found = _moved(call, function, passage)
    else:
        rule = next((rule for names, rule in _RULES if call.name in names), None)
        reciprocal = getattr(function, "__name__", "") in ("__rdiv__", "__rtruediv__")
        if rule is None or reciprocal or len(carried) != 1 or carried[0] is not call.get(0, "input"):
            return None
        found = rule(call, passage)
    return found and [*found, *[None] * (len(call.results) - len(found))]


def narrow(numbers: Tensor, skip: int = 0) -> Tensor:
    """`numbers` with each axis after the first `skip`, along which they were expanded, at length 1."""
    for axis in range(skip, numbers.ndim):
        if numbers.shape[axis] > 1 and numbers.stride(axis) == 0:
            numbers = numbers.narrow(axis, 0, 1)
    return numbers


def _same(call: Call, passage: PassageOf) -> Passed | None:
    if call.name in _DROPOUTS and call.get(2, "training", True):
        return None
    return [passage(call.get(0, "input"))]


def _rectified(call: Call, passage: PassageOf) -> Passed | None:
    return _computed(call, passage, lambda numbers: numbers)


def _by_number(call: Call, passage: PassageOf) -> Passed | None:
    if len(call.tensors) != 1 or call.kwargs.get("rounding_mode"):
        return None
    return _computed(call, passage, lambda numbers: numbers)


def _pooled(call: Call, passage: PassageOf) -> Passed | None:
    x, out = call.get(0, "input"), call.results[0]
    axes = _POOLS.get(call.name, x.ndim - 2)
    return _computed(call, passage, lambda numbers: _alike(numbers, range(x.ndim - axes, x.ndim)), out.shape)


def _reduced(call: Call, passage: PassageOf) -> Passed | None:
    given = call.get(1, "dim", ())
    x, out = call.get(0, "input"), call.results[0]
    axes = given if isinstance(given, (tuple, list)) else (given,)
    if not axes or not all(isinstance(axis, int) for axis in axes):  # of all elements, or of two tensors
        return None
    axes = [axis % x.ndim for axis in axes]

    def reduce(numbers: Tensor) -> Tensor | None:
        alike = _alike(numbers, axes)
        return alike if alike is None or out.ndim == x.ndim else alike.squeeze(tuple(axes))

    return _computed(call, passage, reduce, out.shape)


def _computed(
    call: Call,
    passage: PassageOf,
    change: Callable[[Tensor], Tensor | None],
    shape: torch.Size | None = None,
) -> Passed | None:
    """One tensor goes in; `change` says which channels come out, to be expanded to `shape`."""
    before = passage(call.get(0, "input"))
    assert before is not None
    numbers = change(before.numbers)
    if numbers is None:
        return None
    between = {writer: (*names, call.name) for writer, names in before.between.items()}
    return [Passage(numbers if shape is None else numbers.expand(shape), between)]


def _alike(numbers: Tensor, axes: Sequence[int] | range) -> Tensor | None:
    """`numbers` with the axes at length 1, if all along them are of one channel (or zeros)."""
    numbers = narrow(numbers)
    axes = [axis for axis in axes if numbers.shape[axis] > 1]
    if not axes:
        return numbers
    high = numbers.amax(axes, keepdim=True)
    low = torch.where(numbers == ZERO, high, numbers).amin(axes, keepdim=True)
    return high if torch.equal(low, high) else None


def _moved(call: Call, function: Callable[..., Any], passage: PassageOf) -> Passed:
    """Does to the numbers what was done to the elements."""
    between: dict[str, tuple[str, ...]] = {}

    def numbers(value: Any) -> Any:
        if isinstance(value, Tensor):
            own = passage(value)
            if own is None:  # an index stays one
                return (
                    torch.full_like(value, FOREIGN, dtype=torch.float32)
                    if value.is_floating_point()
                    else value
                )
            for writer, names in own.between.items():
                between[writer] = tuple(dict.fromkeys((*between.get(writer, ()), *names)))
            return own.numbers.detach()  # an object of its own, for functions that work in place
        if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
            return (
                [numbers(item) for item in value] if isinstance(value, list) else tuple(map(numbers, value))
            )
        return value

    args = numbers(call.args)
    kwargs = {name: numbers(value) for name, value in call.kwargs.items() if name != "out"}
    if call.name == "pad":
        out: Any = _padded(replace(call, args=args, kwargs=kwargs))
    else:
        out = function(*_whole(call.name, args), **kwargs)
    results = out if isinstance(out, (tuple, list)) else (out,)
    return [Passage(result, between) for result in results]


def _whole(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numbers that were expanded cannot be viewed in another shape: they are made whole."""
    return (args[0].contiguous(), *args[1:]) if name in _VIEWS else args


def _padded(call: Call) -> Tensor:
    numbers, padding, mode = call.get(0, "input"), call.get(1, "pad"), call.get(2, "mode", "constant")
    if mode == "constant":
        return F.pad(numbers, padding, value=FOREIGN if call.get(3, "value") else ZERO)
    return F.pad(numbers.contiguous(), padding, mode)


_RULES: tuple[tuple[Collection[str], Callable[[Call, PassageOf], Passed | None]], ...] = (
    (_SAME, _same),
    (RECTIFIERS, _rectified),
    (_BY_NUMBER, _by_number),
    ({*_POOLS, *_RESIZES}, _pooled),
    (_REDUCTIONS, _reduced),
)
