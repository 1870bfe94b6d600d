"""Rules for functions that join, repeat or resample axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnas.graph.channels import Parts, coarsen, fixed, freeze, is_fixed, resolved, scaled, size
from bnas.graph.lengths import labels_of
from bnas.graph.rules.elementwise import broadcast, forget
from bnas.graph.rules.indexing import equal_pieces
from bnas.graph.rules.table import rule
from bnas.graph.unify import unite

if TYPE_CHECKING:
    from bnas.graph.trace import Call, Trace


@rule(
    "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "lp_pool1d",
    "lp_pool2d", "lp_pool3d", "max_unpool1d", "max_unpool2d", "max_unpool3d",
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "max_pool2d_with_indices", "interpolate", "upsample", "grid_sample",
)  # fmt: skip
def pooling(trace: Trace, call: Call) -> None:
    """Changes the spatial axes only, which are all after the channels."""
    x = call.tensors[0]
    number = next((int(c) for c in call.name if c in "123"), x.ndim - 2)
    for result in call.results:
        spatial = [fixed(size) for size in result.shape[-number:]]
        trace.mark(result, (*trace.labels(x)[:-number], *spatial))


@rule("pad", "constant_pad_nd")
def pad(trace: Trace, call: Call) -> None:
    """What is added at either end of an axis has a fixed size."""
    x, amounts = call.get(0, "input"), list(call.get(1, "pad"))
    constant = call.get(2, "mode", "constant") == "constant" or call.name == "constant_pad_nd"
    labels = list(trace.labels(x))
    for place in range(len(amounts) // 2):
        axis, before, after = x.ndim - 1 - place, int(amounts[2 * place]), int(amounts[2 * place + 1])
        if not before and not after:
            continue
        if min(before, after) < 0 or not constant:
            freeze(labels[axis], f"is cropped or mirrored by pad in {trace.where}")
            labels[axis] = fixed(call.out.shape[axis])
        else:
            around = [fixed(n) if n else () for n in (before, after)]
            labels[axis] = resolved((*around[0], *labels[axis], *around[1]))
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
            labels.append(resolved(tuple(part for label in own for part in label)))
            continue
        common = own[0]
        for label in own[1:]:
            common = unite(common, label, f"cat in {trace.where}")
        labels.append(common)
    trace.mark(call.out, labels)


@rule("stack")
def stack(trace: Trace, call: Call) -> None:
    """A new axis of fixed size; the others are united."""
    tensors = list(call.get(0, "tensors"))
    dim = call.get(1, "dim", 0) % call.out.ndim
    labels = list(broadcast(trace, tensors, call.out.ndim - 1, f"stack in {trace.where}"))
    labels.insert(dim, fixed(len(tensors)))
    trace.mark(call.out, labels)


@rule("expand", "expand_as", "broadcast_to", "repeat", "tile")
def repeat(trace: Trace, call: Call) -> None:
    """Whole repetitions of an axis: the label several times in a row."""
    x = call.args[0]
    labels: list[Parts] = [fixed(1)] * (call.out.ndim - x.ndim) + list(trace.labels(x))
    like: Sequence[Parts | None] = [None] * call.out.ndim
    if call.name == "expand_as":
        like = trace.labels(call.get(1, "other"))
    elif call.name in ("expand", "broadcast_to"):
        like = labels_of(call.args[1:] or call.kwargs.values(), call.out.ndim)
    for axis, wanted in enumerate(call.out.shape):
        have, asked = size(labels[axis]), like[axis]
        if have == wanted:
            continue
        if asked is not None:
            labels[axis] = asked
            continue
        if is_fixed(labels[axis]) or not have or wanted // have > 64:
            freeze(labels[axis], f"is repeated by {call.name} in {trace.where}")
            labels[axis] = fixed(wanted)
        else:
            labels[axis] = labels[axis] * (wanted // have)
    trace.mark(call.out, labels)


@rule("repeat_interleave")
def repeat_interleave(trace: Trace, call: Call) -> None:
    """Each position several times over."""
    x, times, dim = call.args[0], call.get(1, "repeats"), call.get(2, "dim")
    labels = list(trace.labels(x))
    if dim is None or not isinstance(times, int):
        forget(trace, call, labels)
        return
    labels[dim] = tuple(part._replace(repeat=part.repeat * times) for part in labels[dim])
    trace.mark(call.out, labels)


@rule("glu")
def glu(trace: Trace, call: Call) -> None:
    """The first half of the channels times the sigmoid of the second (Dauphin et al. 2017)."""
    x, dim = call.get(0, "input"), int(call.get(1, "dim", -1)) % call.out.ndim
    labels = list(trace.labels(x))
    labels[dim] = equal_pieces(labels[dim], [call.out.shape[dim]] * 2, trace, "glu")[0]
    trace.mark(call.out, labels)


@rule("pixel_shuffle", "pixel_unshuffle")
def pixel_shuffle(trace: Trace, call: Call) -> None:
    """r² channels in a row become one channel of r×r times the positions, and back (Shi et al. 2016)."""
    x, factor = call.get(0, "input"), int(call.args[1] if len(call.args) > 1 else next(iter(
        call.kwargs[k] for k in ("upscale_factor", "downscale_factor") if k in call.kwargs)))  # fmt: skip
    labels, times = trace.labels(x), factor * factor
    channels: Parts | None = labels[-3]
    if call.name == "pixel_unshuffle":
        channels = scaled(labels[-3], times, 1)
    else:
        coarse = coarsen(labels[-3], times)
        if coarse is None:
            freeze(labels[-3], f"does not divide for pixel_shuffle in {trace.where}")
            channels = fixed(call.out.shape[-3])
        else:
            channels = scaled(coarse, 1, times)
    trace.mark(call.out, (*labels[:-3], channels, *map(fixed, call.out.shape[-2:])))


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(trace: Trace, call: Call) -> None:
    """Interleaves g equal runs of channels: all runs keep the same members."""
    x, groups = call.get(0, "input"), int(call.get(1, "groups"))
    labels = trace.labels(x)
    piece = equal_pieces(labels[1], [x.shape[1] // groups] * groups, trace, call.name)[0]
    shuffled = tuple(part._replace(repeat=part.repeat * groups) for part in piece)
    trace.mark(call.out, (labels[0], shuffled, *labels[2:]))


@rule("unfold")
def unfold(trace: Trace, call: Call) -> None:
    """F.unfold: [N, C, H, W] → [N, C·k·k, L], each channel k·k times (im2col)."""
    x = call.args[0]
    labels = list(trace.labels(x))
    if call.out.ndim == x.ndim + 1:  # Tensor.unfold: windows along one axis
        dim = int(call.get(1, "dimension")) % x.ndim
        freeze(labels[dim], f"is cut by unfold in {trace.where}")
        labels[dim] = fixed(call.out.shape[dim])
        trace.mark(call.out, (*labels, fixed(call.out.shape[-1])))
        return
    if x.ndim != 4 or call.out.ndim != 3:
        forget(trace, call, labels)
        return
    times = call.out.shape[1] // x.shape[1]
    channels = tuple(part._replace(repeat=part.repeat * times) for part in labels[1])
    trace.mark(call.out, (labels[0], channels, fixed(call.out.shape[2])))


@rule("fold")
def fold(trace: Trace, call: Call) -> None:
    """F.fold: [N, C·k·k, L] → [N, C, H, W], the sum of what `unfold` takes apart."""
    x = call.args[0]
    times = x.shape[-2] // call.out.shape[-3]
    labels = trace.labels(x)
    coarse = coarsen(labels[-2], times)
    if coarse is None:
        freeze(labels[-2], f"does not divide for fold in {trace.where}")
        coarse = fixed(x.shape[-2])
    trace.mark(call.out, (*labels[:-2], scaled(coarse, 1, times), *map(fixed, call.out.shape[-2:])))
