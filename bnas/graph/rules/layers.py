"""Rules for functions that use a module's weights: they read channels and write channels."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from bnas.graph.channels import Part, Parts, coarsen, fixed, freeze
from bnas.graph.rules.table import module_rule, rule

if TYPE_CHECKING:
    from bnas.graph.trace import Call, Trace


@rule("conv2d")
def conv2d(trace: Trace, call: Call) -> None:
    """Reads axis -3 of [N, C, H, W] or [C, H, W] and writes new channels; grouped: whole groups stay."""
    from bnas.graph.trace import OpenLayer

    x, weight = call.get(0, "input"), call.get(1, "weight")
    groups = call.get(6, "groups", 1)
    labels = trace.labels(x)
    kernel = tuple(weight.shape[2:])
    positions = prod(call.out.shape[-2:])
    owner = trace.owner(weight, (nn.Conv2d,), "weight")
    if owner is None:
        _foreign(trace, call, x, weight, weight.numel() * positions)
        return
    path, module = owner
    reads = labels[-3]
    if groups == 1:
        known = trace.layers.get(path)
        writes = known.writes if known else trace.new_channels(path, weight.shape[0])
    else:
        grouped = _grouped(reads, weight.shape[1], weight.shape[0] // groups)
        if grouped is None:
            freeze(reads, f"its channels do not divide into the groups of {path}")
            grouped = reads, fixed(weight.shape[0])
        reads, writes = grouped
    writes = trace.layer(
        OpenLayer(path, "conv2d", reads, writes, positions, kernel, groups, module.bias is not None)
    )
    spatial = [fixed(size) for size in call.out.shape[-2:]]
    trace.mark(call.out, (*labels[:-3], writes, *spatial))


def _grouped(reads: Parts, inputs_per_group: int, outputs_per_group: int) -> tuple[Parts, Parts] | None:
    """The labels a grouped convolution reads and writes: units become whole groups.

    Each group of input channels makes its own group of output channels, so both have the same unknowns.
    """
    coarse = [coarsen(part, inputs_per_group) for part in reads]
    if any(part is None for part in coarse):
        return None
    read = tuple(part for part in coarse if part is not None)
    written = tuple(
        Part(None, part.size // inputs_per_group * outputs_per_group)
        if part.channels is None
        else Part(part.channels, part.units, part.repeat // inputs_per_group * outputs_per_group)
        for part in read
    )
    return read, written


@rule("linear")
def linear(trace: Trace, call: Call) -> None:
    """Reads the last axis and writes new channels there; leading axes keep their labels."""
    from bnas.graph.trace import OpenLayer

    x, weight = call.get(0, "input"), call.get(1, "weight")
    labels = trace.labels(x)
    positions = prod(call.out.shape[1:-1])
    owner = trace.owner(weight, (nn.Linear,), "weight")
    if owner is None:
        _foreign(trace, call, x, weight, weight.numel() * positions)
        return
    path, module = owner
    known = trace.layers.get(path)
    writes = known.writes if known else trace.new_channels(path, weight.shape[0])
    layer = OpenLayer(path, "linear", labels[-1], writes, positions, bias=module.bias is not None)
    trace.mark(call.out, (*labels[:-1], trace.layer(layer)))


@rule("batch_norm")
def batch_norm(trace: Trace, call: Call) -> None:
    """Hands all labels on; its own tensors follow axis 1."""
    from bnas.graph.trace import OpenLayer

    x = call.get(0, "input")
    labels = trace.labels(x)
    weight, mean = call.get(3, "weight"), call.get(1, "running_mean")
    owner = trace.owner(weight, (nn.BatchNorm2d,), "weight") or trace.owner(
        mean, (nn.BatchNorm2d,), "running_mean"
    )
    if owner is not None:
        path, module = owner
        # BatchNorm2d.forward is inherited; a subclass that keeps it is still a plain batch norm.
        layer = OpenLayer(path, "batch_norm", labels[1], labels[1], bias=module.bias is not None)
        trace.layer(layer)
    elif weight is not None or mean is not None:
        freeze(labels[1], f"passes through a batch norm that is no nn.BatchNorm2d, in {trace.where}")
    trace.mark(call.out, labels)


@module_rule(FrozenBatchNorm2d)
def frozen_batch_norm(trace: Trace, path: str, module: nn.Module, call: Call) -> None:
    """torchvision's FrozenBatchNorm2d: an affine map per channel, kept in buffers."""
    from bnas.graph.trace import OpenLayer

    labels = trace.labels(call.args[0])
    trace.layer(OpenLayer(path, "frozen_batch_norm", labels[1], labels[1]))
    trace.mark(call.out, labels)


def _foreign(trace: Trace, call: Call, x: Tensor, weight: Tensor, macs: int) -> None:
    """Weights that are not one module's own (shared, computed, or in a module with its own forward)."""
    trace.other_macs[trace.where] = trace.other_macs.get(trace.where, 0) + macs
    trace.freeze_all([x, weight], f"meets weights that no plain layer owns, in {trace.where}")
    trace.mark(call.out, tuple(fixed(size) for size in call.out.shape))
