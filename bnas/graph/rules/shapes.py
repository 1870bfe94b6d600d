"""Rules for functions that move, join, split or reduce axes."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bnas.graph.channels import Part, Parts, fixed, freeze, is_fixed, merged, unite
from bnas.graph.rules.table import rule

if TYPE_CHECKING:
    from bnas.graph.trace import Call, Trace


@rule(
    "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "boolean_dispatch",
    "max_pool2d_with_indices", "interpolate", "upsample",
)  # fmt: skip
def pooling(trace: Trace, call: Call) -> None:
    """Changes the last two axes only."""
    x = call.tensors[0]
    for result in call.results:
        spatial = [fixed(size) for size in result.shape[-2:]]
        trace.mark(result, (*trace.labels(x)[:-2], *spatial))


@rule("pad")
def pad(trace: Trace, call: Call) -> None:
    """Padded axes grow and must not hold elastic channels; the others keep their labels."""
    x = call.tensors[0]
    labels = list(trace.labels(x))
    for axis in range(x.ndim):
        if x.shape[axis] != call.out.shape[axis]:
            freeze(labels[axis], f"is padded in {trace.where}")
            labels[axis] = fixed(call.out.shape[axis])
    trace.mark(call.out, labels)


@rule("cat", "concat", "concatenate")
def cat(trace: Trace, call: Call) -> None:
    """Along `dim` the labels follow one another; along the other axes they are united."""
    tensors = [tensor for tensor in call.get(0, "tensors") if tensor.numel() or tensor.ndim > 1]
    dim = call.get(1, "dim", call.kwargs.get("axis", 0)) % call.out.ndim
    labels: list[Parts] = []
    for axis in range(call.out.ndim):
        own = [trace.labels(tensor)[axis] for tensor in tensors]
        if axis == dim:
            labels.append(merged(tuple(part for label in own for part in label)))
            continue
        common = own[0]
        for label in own[1:]:
            common = unite(common, label, f"cat in {trace.where}")
        labels.append(common)
    trace.mark(call.out, labels)


@rule("flatten", "reshape", "view", "squeeze", "unsqueeze", "unflatten", "view_as", "reshape_as")
def reshape(trace: Trace, call: Call) -> None:
    """Row-major reshaping: axes that merge multiply their repeats, axes of size 1 come and go."""
    x = call.tensors[0]
    trace.mark(call.out, reshaped(trace, x, tuple(call.out.shape), call.name))


def reshaped(trace: Trace, x: Tensor, shape: tuple[int, ...], name: str) -> tuple[Parts, ...]:
    """The labels of `x` seen in `shape`. What cannot be followed exactly is frozen."""
    labels = trace.labels(x)
    result: list[Parts] = []
    for old_axes, new_axes in _matching_runs(tuple(x.shape), shape):
        own = [labels[axis] for axis in old_axes]
        if not old_axes:
            result += [fixed(1) for _ in new_axes]
        elif len(new_axes) == 1:
            result.append(_merge(own, f"{name} in {trace.where}"))
        else:
            for label in own:
                freeze(label, f"is split over several axes by {name} in {trace.where}")
            result += [fixed(shape[axis]) for axis in new_axes]
    return tuple(result)


def _matching_runs(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Shortest runs of old and new axes that hold the same number of elements, in order."""
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        if i < len(old) and j < len(new) and old[i] == new[j]:
            runs.append(([i], [j]))
            i, j = i + 1, j + 1
        elif i < len(old) and old[i] == 1:
            # An axis that disappears; joined to nothing.
            runs.append(([i], []))
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
    return [run for run in runs if run[1] or run[0]]


def _merge(labels: list[Parts], where: str) -> Parts:
    """The label of axes flattened into one: [a, n] → each unit of a covers n times as many positions."""
    result = labels[0]
    for label in labels[1:]:
        size = sum(part.size for part in label)
        before = sum(part.size for part in result)
        if is_fixed(label):
            result = tuple(Part(part.channels, part.units, part.repeat * size) for part in merged(result))
        elif before == 1 and is_fixed(result):
            result = label
        else:
            freeze(result, f"is merged with channels to its right by {where}")
            freeze(label, f"is merged below another axis by {where}")
            result = fixed(before * size)
    return result


@rule("permute", "transpose", "movedim", "moveaxis", "t", "swapaxes", "swapdims")
def permute(trace: Trace, call: Call) -> None:
    """Axes change places."""
    x = call.tensors[0]
    labels = trace.labels(x)
    trace.mark(call.out, [labels[axis] for axis in _order(call, x.ndim)])


def _order(call: Call, ndim: int) -> list[int]:
    order = list(range(ndim))
    if call.name == "permute":
        dims = call.get(1, "dims")
        dims = dims if isinstance(dims, (tuple, list)) else call.args[1:]
        return [int(dim) % ndim for dim in dims]
    if call.name == "t":
        return order[::-1]
    first, second = (
        call.get(1, "dim0", call.kwargs.get("axis0")),
        call.get(2, "dim1", call.kwargs.get("axis1")),
    )
    if call.name in ("movedim", "moveaxis"):
        source, target = call.get(1, "source"), call.get(2, "destination")
        sources = [source] if isinstance(source, int) else list(source)
        targets = [target] if isinstance(target, int) else list(target)
        rest = [axis for axis in order if axis not in [s % ndim for s in sources]]
        for position, axis in sorted((t % ndim, s % ndim) for s, t in zip(sources, targets, strict=True)):
            rest.insert(position, axis)
        return rest
    order[first], order[second] = order[second], order[first]
    return order


@rule("mean", "sum", "amax", "amin")
def reduce(trace: Trace, call: Call) -> None:
    """Reduced axes vanish; a reduction over channels depends on how many there are and freezes them."""
    x = call.tensors[0]
    dims = _dims(call.get(1, "dim", call.kwargs.get("axis")), x.ndim)
    keep = bool(call.get(2, "keepdim", call.kwargs.get("keepdims", False)))
    labels: list[Parts] = []
    for axis, label in enumerate(trace.labels(x)):
        if axis not in dims:
            labels.append(label)
            continue
        freeze(label, f"is reduced by {call.name} in {trace.where}")
        if keep:
            labels.append(fixed(1))
    trace.mark(call.out, labels)


@rule("softmax", "log_softmax")
def softmax(trace: Trace, call: Call) -> None:
    """Depends on all entries along `dim`."""
    x = call.tensors[0]
    labels = trace.labels(x)
    dim = call.get(1, "dim")
    for axis in range(x.ndim) if dim is None else (dim % x.ndim,):
        freeze(labels[axis], f"passes through {call.name} in {trace.where}")
    trace.mark(call.out, labels)


@rule("chunk", "split", "unbind", "getitem", "narrow", "select")
def part_of(trace: Trace, call: Call) -> None:
    """Axes that keep their size keep their label; channels that are cut are frozen."""
    x = call.tensors[0]
    labels = list(trace.labels(x))
    if call.name == "getitem" and not _is_basic(call.args[1]):
        for label in labels:
            freeze(label, f"is indexed by a tensor or list in {trace.where}")
        for result in call.results:
            trace.mark(result, [fixed(size) for size in result.shape])
        return
    for result in call.results:
        kept = _kept_axes(call, x, result)
        cut = set(range(x.ndim)).difference(kept)
        own: list[Parts] = []
        for size, axis in zip(result.shape, kept, strict=True):
            whole = axis is not None and size == x.shape[axis]
            own.append(labels[axis] if axis is not None and whole else fixed(size))
            if axis is not None and not whole:
                cut.add(axis)
        for axis in cut:
            freeze(labels[axis], f"is cut by {call.name} in {trace.where}")
        trace.mark(result, own)


def _kept_axes(call: Call, x: Tensor, result: Tensor) -> list[int | None]:
    """For each axis of the result, the axis of `x` it comes from (None: a new one)."""
    if call.name in ("unbind", "select"):
        dim = int(call.get(1, "dim", 0)) % x.ndim
        return [axis for axis in range(x.ndim) if axis != dim]
    if call.name != "getitem":
        return list(range(x.ndim))
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    explicit = sum(item is not None and item is not Ellipsis for item in index)
    if Ellipsis not in index:
        index = (*index, Ellipsis)
    kept: list[int | None] = []
    axis = 0
    for item in index:
        if item is None:
            kept.append(None)
        elif item is Ellipsis:
            kept += range(axis, axis + x.ndim - explicit)
            axis += x.ndim - explicit
        else:
            if isinstance(item, slice):
                kept.append(axis)
            axis += 1
    return kept


def _is_basic(index: Any) -> bool:
    items = index if isinstance(index, tuple) else (index,)
    return all(
        item is None or item is Ellipsis or isinstance(item, slice) or type(item) is int for item in items
    )


def _dims(dim: Any, ndim: int) -> list[int]:
    if dim is None:
        return list(range(ndim))
    return [axis % ndim for axis in (dim if isinstance(dim, (tuple, list)) else (dim,))]
