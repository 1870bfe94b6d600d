"""Rules for functions that only rearrange: reshape and permute, exactly or not at all."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING

from torch import Tensor

from bnas.graph.channels import (
    Part,
    Parts,
    always_as_long,
    cut,
    fixed,
    freeze,
    is_fixed,
    is_side,
    resolved,
    size,
    split_in_two,
    whole_of,
)
from bnas.graph.lengths import labels_of
from bnas.graph.rules.table import rule
from bnas.graph.state import Value
from bnas.graph.unify import unite

if TYPE_CHECKING:
    from bnas.graph.trace import Call, Trace

# What networks call the number of their attention heads.
_HEADS = ("num_heads", "n_heads", "num_attention_heads", "nhead", "n_head", "heads")
_MOST_PARTS = 4096  # a label longer than this is not worth following
_EMPTY = 1_000_003  # stands for an axis without entries: a prime, so that it meets nothing but itself


@rule("flatten", "reshape", "view", "squeeze", "unsqueeze", "unflatten", "view_as", "reshape_as", "ravel")
def reshape(trace: Trace, call: Call) -> None:
    """Row-major reshaping: axes that merge multiply their repeats, one that is split becomes two."""
    x, shape = call.args[0], tuple(call.out.shape)
    where = f"{call.name} in {trace.where}"
    labels = reshaped(trace, list(trace.labels(x)), tuple(x.shape), shape, where)
    if call.name in ("view", "reshape"):
        asked = labels_of(call.args[1:] or call.kwargs.values(), len(shape))
        for axis, label in enumerate(asked):
            if label is not None and not always_as_long(label, labels[axis]):
                labels[axis] = unite(label, labels[axis], where)
    _rearranged(trace, x, call.out, labels, lambda value: value.reshape(shape))


@rule("permute", "transpose", "movedim", "moveaxis", "t", "swapaxes", "swapdims", "T", "mT", "adjoint")
def permute(trace: Trace, call: Call) -> None:
    """Axes change places."""
    x = call.args[0]
    order = _order(call, x.ndim)
    labels = trace.labels(x)
    _rearranged(trace, x, call.out, [labels[axis] for axis in order], lambda value: value.permute(order))


def _rearranged(
    trace: Trace, x: Tensor, out: Tensor, labels: list[Parts], move: Callable[[Tensor], Tensor]
) -> None:
    """Mark `out`; what was added into `x` has been added into `out`, moved."""
    value = trace.value(x)
    sums = frozenset(Value(own.token, (*own.moves, move)) for own in trace.sums(x))
    trace.mark(out, labels, sums, Value(value.token, (*value.moves, move)))


def reshaped(
    trace: Trace, labels: list[Parts], old: tuple[int, ...], new: tuple[int, ...], where: str
) -> list[Parts]:
    """The labels of a tensor seen in another shape. What cannot be followed exactly is frozen."""
    result: list[Parts] = []
    if 0 in old:  # nothing to rearrange but the sizes of the other axes
        old, new = (tuple(n or _EMPTY for n in shape) for shape in (old, new))
        labels = [label if size(label) else fixed(_EMPTY) for label in labels]
    for old_axes, new_axes in _matching_runs(old, new):
        if not old_axes:
            result += [fixed(1) for _ in new_axes]
        elif new_axes:
            merged = merge([labels[axis] for axis in old_axes], where)
            result += split(trace, merged, [new[axis] for axis in new_axes], where)
    return [fixed(0) if n == _EMPTY else label for n, label in zip(new, result, strict=True)]


def _matching_runs(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Shortest runs of old and new axes that hold the same number of elements, in order."""
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        if i < len(old) and j < len(new) and old[i] == new[j]:
            runs.append(([i], [j]))
            i, j = i + 1, j + 1
        elif i < len(old) and old[i] == 1:
            runs.append(([i], []))  # an axis that disappears
            i += 1
        elif j < len(new) and new[j] == 1:
            runs.append(([], [j]))
            j += 1
        else:
            left, right = [i], [j]
            i, j = i + 1, j + 1
            while prod(old[a] for a in left) != prod(new[a] for a in right):
                if prod(old[a] for a in left) < prod(new[a] for a in right):
                    left.append(i)
                    i += 1
                else:
                    right.append(j)
                    j += 1
            runs.append((left, right))
    return runs


def merge(labels: list[Parts], where: str) -> Parts:
    """The label of axes flattened into one: [a, n] → each unit of a covers n times as many positions."""
    result = resolved(labels[0])
    for label in labels[1:]:
        result, label = resolved(result), resolved(label)
        times = size(label)
        whole = whole_of(result, label)
        if whole is not None:
            result = resolved(whole)
            continue
        if is_fixed(result) and not is_fixed(label):
            if size(result) == 1:
                result = label
                continue
            if size(result) * len(label) <= _MOST_PARTS:
                result = label * size(result)
                continue
            freeze(label, f"is merged below another axis by {where}")
        elif not is_fixed(label):
            freeze(label, f"is merged below another axis by {where}")
        result = tuple(
            Part(None, part.size * times)
            if part.channels is None
            else part._replace(repeat=part.repeat * times)
            for part in resolved(result)
        )
    return result


def split(trace: Trace, label: Parts, sizes: list[int], where: str) -> list[Parts]:
    """The labels of one axis seen as several of `sizes`."""
    result: list[Parts] = []
    while len(sizes) > 1:
        label = resolved(label)
        outer, *sizes = sizes
        if outer == 1:
            result.append(fixed(1))
            continue
        first, label = _split_in_two(trace, label, outer, prod(sizes), where)
        result.append(first)
    return [*result, label]


def _split_in_two(trace: Trace, label: Parts, outer: int, inner: int, where: str) -> tuple[Parts, Parts]:
    if is_fixed(label):
        return fixed(outer), fixed(inner)
    if inner == 1:
        return label, fixed(1)
    if all((part.size if part.channels is None else part.repeat) % inner == 0 for part in label):
        first = (
            Part(None, part.size // inner)
            if part.channels is None
            else part._replace(repeat=part.repeat // inner)
            for part in label
        )
        return tuple(first), fixed(inner)
    if len(label) > 1:
        pieces = cut(label, [inner] * outer) if outer <= _MOST_PARTS else None
        if pieces is not None:
            for piece in pieces[1:]:
                unite(pieces[0], piece, where)
            return fixed(outer), resolved(pieces[0])
    elif inner % label[0].repeat == 0:
        channels, repeat = label[0].channels, label[0].repeat
        assert channels is not None
        if channels.split is not None and size(channels.split.outer) != outer:
            channels.split.decide()
            return _split_in_two(trace, resolved(label), outer, inner, where)
        two = split_in_two(channels, outer)
        _follow_heads(trace, outer, two.outer)
        return two.outer, tuple(part._replace(repeat=repeat) for part in two.inner)
    freeze(label, f"is split over several axes by {where}")
    return fixed(outer), fixed(inner)


def _follow_heads(trace: Trace, heads: int, label: Parts) -> None:
    """Attributes of the running module that are called like a number of heads, and are this one, follow."""
    for name in _HEADS:
        if getattr(trace.module, name, None) == heads:
            trace.follows(name, label)


def contracted(label: Parts, where: str) -> None:
    """An axis that is summed over inside a product of heads or groups is the size of each."""
    if is_side(label):
        freeze(label, f"is summed over by {where}")


def _order(call: Call, ndim: int) -> list[int]:
    order = list(range(ndim))
    if call.name == "permute":
        dims = call.get(1, "dims")
        dims = dims if isinstance(dims, (tuple, list)) else call.args[1:]
        return [int(dim) % ndim for dim in dims]
    if call.name in ("t", "T"):
        return order[::-1]
    if call.name in ("mT", "adjoint"):
        return [*order[:-2], ndim - 1, ndim - 2]
    if call.name in ("movedim", "moveaxis"):
        source, target = call.get(1, "source"), call.get(2, "destination")
        sources = [source] if isinstance(source, int) else list(source)
        targets = [target] if isinstance(target, int) else list(target)
        rest = [axis for axis in order if axis not in [s % ndim for s in sources]]
        for position, axis in sorted((t % ndim, s % ndim) for s, t in zip(sources, targets, strict=True)):
            rest.insert(position, axis)
        return rest
    first = call.get(1, "dim0", call.kwargs.get("axis0"))
    second = call.get(2, "dim1", call.kwargs.get("axis1"))
    order[first], order[second] = order[second], order[first]
    return order
