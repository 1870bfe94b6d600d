"""Rules for functions that take parts of axes, or write into them."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bnas.graph.channels import Parts, cut, fixed, freeze, is_fixed, resolved, size
from bnas.graph.rules.elementwise import forget
from bnas.graph.rules.table import rule
from bnas.graph.unify import unite

if TYPE_CHECKING:
    from bnas.graph.trace import Call, Trace

_MOST_PIECES = 8  # a slice is taken for a share of its axis where that is in so many equal pieces


@rule("chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split")
def split(trace: Trace, call: Call) -> None:
    """Equal pieces have one width, as the numbers of channels are computed anew; unequal ones are frozen."""
    x = call.args[0]
    dim = int(call.get(2, "dim", 0)) % x.ndim
    results = call.results
    pieces = equal_pieces(trace.labels(x)[dim], [result.shape[dim] for result in results], trace, call.name)
    for result, piece in zip(results, pieces, strict=True):
        labels = list(trace.labels(x))
        labels[dim] = piece
        trace.mark(result, labels)


def equal_pieces(label: Parts, sizes: list[int], trace: Trace, name: str) -> list[Parts]:
    """The labels of the pieces of an axis; frozen where they are not of one size."""
    if is_fixed(label):
        return [fixed(size) for size in sizes]
    pieces = cut(label, sizes) if len(set(sizes)) == 1 and sizes[0] > 1 else None
    if pieces is None:
        freeze(label, f"is cut by {name} in {trace.where}")
        return [fixed(size) for size in sizes]
    for piece in pieces[1:]:
        unite(pieces[0], piece, f"{name} in {trace.where}")
    return [resolved(piece) for piece in pieces]


@rule("unbind", "select")
def unbind(trace: Trace, call: Call) -> None:
    """The axis vanishes; its entries are told apart, so it is of fixed size."""
    x = call.args[0]
    dim = int(call.get(1, "dim", 0)) % x.ndim
    freeze(trace.labels(x)[dim], f"is cut by {call.name} in {trace.where}")
    for result in call.results:
        trace.mark(result, [label for axis, label in enumerate(trace.labels(x)) if axis != dim])


@rule("narrow")
def narrow(trace: Trace, call: Call) -> None:
    """A slice of one axis."""
    x, dim = call.args[0], int(call.get(1, "dim")) % call.args[0].ndim
    labels = list(trace.labels(x))
    labels[dim] = _piece(labels[dim], int(call.get(2, "start")), int(call.get(3, "length")), trace, call.name)
    trace.mark(call.out, labels)


def _piece(label: Parts, start: int, length: int, trace: Trace, name: str) -> Parts:
    """A slice of an axis: a number of equal pieces, or frozen."""
    whole = size(label)
    if length == whole:
        return label
    step = gcd(start, length, whole)
    if not length or whole // step > _MOST_PIECES:
        freeze(label, f"is cut by {name} in {trace.where}")
        return fixed(length)
    pieces = equal_pieces(label, [step] * (whole // step), trace, name)
    return resolved(
        tuple(part for piece in pieces[start // step : (start + length) // step] for part in piece)
    )


@rule("getitem")
def getitem(trace: Trace, call: Call) -> None:
    """Slices, numbers, None and … axis by axis; tensors and lists fix the axes that they index."""
    labels = indexed(trace, call.args[0], call.args[1], call.out.shape)
    if labels is None:
        forget(trace, call, list(trace.labels(call.args[0])))
    else:
        trace.mark(call.out, labels)


@rule("setitem")
def setitem(trace: Trace, call: Call) -> None:
    """Writes into a part of a tensor: what is written has the channels of that part."""
    target, index, value = call.args[:3]
    where = f"setitem in {trace.where}"
    masked = isinstance(index, Tensor) and index.dtype == torch.bool and not isinstance(value, Tensor)
    if masked:
        for label, own in zip(trace.labels(target), trace.labels(index), strict=False):
            unite(label, own, where)
    else:
        with torch._C.DisableTorchFunction():
            shape = target[index].shape
        labels = indexed(trace, target, index, shape)
        written = trace.labels(value) if isinstance(value, Tensor) else ()
        if labels is None:
            trace.freeze_all([target], f"is written into a part of a tensor in {trace.where}")
            labels = [fixed(n) for n in shape]
        for label, own in zip(reversed(labels), reversed(written), strict=False):
            if size(label) == size(own):
                unite(label, own, where)
    trace.mark(target, trace.labels(target))


def indexed(trace: Trace, x: Tensor, index: Any, shape: tuple[int, ...]) -> list[Parts] | None:
    """The labels of `x[index]`, which has this shape; None where they are not known."""
    items = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(item, (bool, np.bool_)) for item in items):
        return None
    used = sum(_axes(item) for item in items)
    if not any(item is Ellipsis for item in items):
        items.append(Ellipsis)
    labels, axis = trace.labels(x), 0
    result: list[Parts | None] = []  # None: an axis that is indexed by a tensor
    for item in items:
        if item is None:
            result.append(fixed(1))
        elif item is Ellipsis:
            result += labels[axis : axis + x.ndim - used]
            axis += x.ndim - used
        elif isinstance(item, slice):
            result.append(_sliced(trace, item, labels[axis], x.shape[axis]))
            axis += 1
        else:
            for label in labels[axis : axis + _axes(item)]:
                freeze(label, f"is indexed by a number, tensor or list in {trace.where}")
            axis += _axes(item)
            result += [None] if _is_advanced(item) else []
    return _placed(result, shape)


def _placed(result: list[Parts | None], shape: tuple[int, ...]) -> list[Parts] | None:
    """The axes that tensors index are broadcast together, where they stand; else at the front."""
    places = [place for place, label in enumerate(result) if label is None]
    kept = [label for label in result if label is not None]
    first = places[0] if places and places[-1] - places[0] == len(places) - 1 else 0
    count = len(shape) - len(kept)
    labels = [*kept[:first], *map(fixed, shape[first : first + count]), *kept[first:]]
    return labels if [size(label) for label in labels] == list(shape) else None


def _is_advanced(item: Any) -> bool:
    return isinstance(item, (Tensor, list, tuple, range, np.ndarray))


def _axes(item: Any) -> int:
    """How many axes an item of an index takes up."""
    if item is None or item is Ellipsis:
        return 0
    if isinstance(item, Tensor) and item.dtype in (torch.bool, torch.uint8):
        return item.ndim
    if isinstance(item, np.ndarray) and item.dtype == np.bool_:
        return item.ndim
    return 1


def _sliced(trace: Trace, item: slice, label: Parts, length: int) -> Parts:
    start, stop, step = item.indices(length)
    if step == 1:
        return _piece(label, start, max(stop - start, 0), trace, "getitem")
    freeze(label, f"is cut by getitem in {trace.where}")
    return fixed(len(range(start, stop, step)))


@rule("gather", "index_select", "take_along_dim")
def gather(trace: Trace, call: Call) -> None:
    """Fixes the axis along which entries are picked; the others are those of the index too."""
    first, second = (2, 1) if call.name == "take_along_dim" else (1, 2)
    x, dim, index = call.args[0], call.get(first, "dim"), call.get(second, "index")
    index = call.kwargs.get("indices") if index is None else index
    if dim is None or not isinstance(index, Tensor):
        forget(trace, call, [label for tensor in call.tensors for label in trace.labels(tensor)])
        return
    dim %= x.ndim
    labels = list(trace.labels(x))
    freeze(labels[dim], f"is indexed by {call.name} in {trace.where}")
    for axis in range(x.ndim) if call.name != "index_select" else ():
        own = trace.labels(index)[axis]
        if axis != dim and size(own) == size(labels[axis]):
            labels[axis] = unite(labels[axis], own, f"{call.name} in {trace.where}")
        elif (axis != dim and size(own) > 1) or call.name == "gather":
            freeze(labels[axis], f"is indexed by {call.name} in {trace.where}")
            labels[axis] = fixed(call.out.shape[axis])
    labels[dim] = fixed(call.out.shape[dim])
    trace.mark(call.out, labels)


@rule("scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy")
def scatter(trace: Trace, call: Call) -> None:
    """Puts entries somewhere along an axis, which is fixed; the other axes of what is put there are the target's."""
    x, dim, index = call.args[0], call.get(1, "dim"), call.get(2, "index")
    source = call.args[3] if len(call.args) > 3 else call.kwargs.get("src", call.kwargs.get("source"))
    labels = list(trace.labels(x))
    where = f"{call.name} in {trace.where}"
    freeze(labels[dim], f"is indexed by {where}")
    others = [index] if call.name.startswith("scatter") else []
    for tensor in (*others, *([source] if isinstance(source, Tensor) and source.ndim else [])):
        for axis, own in enumerate(trace.labels(tensor)):
            if axis == dim % x.ndim:
                freeze(own, f"is indexed by {where}")
            elif size(own) == size(labels[axis]):
                labels[axis] = unite(labels[axis], own, where)
            else:
                freeze(labels[axis], f"is indexed by {where}")
                freeze(own, f"is indexed by {where}")
    trace.mark(call.out, labels)


@rule("roll", "flip", "fliplr", "flipud")
def roll(trace: Trace, call: Call) -> None:
    """Turns positions around: harmless on axes of fixed size."""
    x = call.get(0, "input")
    dims: Any = {"fliplr": 1, "flipud": 0}.get(call.name, call.get(2 if call.name == "roll" else 1, "dims"))
    if call.name == "flip" and isinstance(dims, int):
        dims = call.args[1:]  # x.flip(1, 2)
    labels = trace.labels(x)
    for axis in range(x.ndim) if dims is None else (dims if isinstance(dims, (tuple, list)) else (dims,)):
        freeze(labels[axis], f"is turned around by {call.name} in {trace.where}")
    trace.mark(call.out, labels)
