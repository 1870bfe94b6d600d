"""Elastic layers: the user's own modules with another class, which use a part of their weights.

`module.__class__` is swapped, so names, parameters, hooks, optimizer references and `state_dict` keys stay.
An elastic class says in `AXES` which axis of which tensor follows the channels it reads or writes; slicing,
extraction and reordering all work from that table. Weights are sliced, never masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

Index = slice | Tensor  # positions along an axis: a prefix, or positions in ascending order
Side = Literal["reads", "writes"]


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """What an activated layer uses: positions along its input and output channels, and their numbers.

    An index of None is the whole axis.
    """

    reads: Index | None
    writes: Index | None
    inputs: int
    outputs: int
    groups: int = 1

    def side(self, name: Side | None) -> Index | None:
        return None if name is None else self.reads if name == "reads" else self.writes


WHOLE = slice(None)


def cut(tensor: Tensor, indices: tuple[Index | None, ...]) -> Tensor:
    """The part of `tensor` at `indices`, one per leading axis; a view where they are slices."""
    slices = tuple(index if isinstance(index, slice) else WHOLE for index in indices)
    if any(part is not WHOLE for part in slices):
        tensor = tensor[slices]
    for axis, index in enumerate(indices):
        if isinstance(index, Tensor):
            tensor = tensor.index_select(axis, index)
    return tensor


class Elastic(nn.Module):
    """Base of all elastic layers; only class attributes and methods, so that it can be swapped in and out."""

    AXES: ClassVar[Mapping[str, tuple[Side | None, ...]]]
    _plan: LayerPlan

    def apply_plan(self, plan: LayerPlan) -> None:
        """Use the part of the weights that `plan` names, from the next forward on."""
        self._plan = plan
        self._indices = {name: self.indices(name, plan) for name in self.AXES}
        self.set_sizes(plan)

    @classmethod
    def indices(cls, name: str, plan: LayerPlan) -> tuple[Index | None, ...] | None:
        """Where `plan` cuts the tensor `name`; None where it takes the whole."""
        found = tuple(plan.side(side) for side in cls.AXES[name])
        return None if all(index is None for index in found) else found

    def active(self, name: str) -> Tensor | None:
        """The active part of a parameter or buffer, None where the layer has none."""
        tensor: Tensor | None = getattr(self, name)
        indices = self._indices[name]
        return tensor if indices is None or tensor is None else cut(tensor, indices)

    def set_sizes(self, plan: LayerPlan) -> None:
        """Set the attributes that tell the layer's size (as `in_channels`), for people and exporters."""


class ElasticConv2d(Elastic, nn.Conv2d):
    AXES: ClassVar = {"weight": ("writes", "reads"), "bias": ("writes",)}

    def forward(self, input: Tensor) -> Tensor:
        weight = self.active("weight")
        assert weight is not None
        output: Tensor = self._conv_forward(input, weight, self.active("bias"))
        return output

    def set_sizes(self, plan: LayerPlan) -> None:
        self.in_channels, self.out_channels, self.groups = plan.inputs, plan.outputs, plan.groups


class ElasticGroupedConv2d(ElasticConv2d):
    """Depthwise and grouped: whole groups go, so the weight's input axis never changes."""

    AXES: ClassVar = {"weight": ("writes",), "bias": ("writes",)}


class ElasticLinear(Elastic, nn.Linear):
    AXES: ClassVar = {"weight": ("writes", "reads"), "bias": ("writes",)}

    def forward(self, input: Tensor) -> Tensor:
        weight = self.active("weight")
        assert weight is not None
        return F.linear(input, weight, self.active("bias"))

    def set_sizes(self, plan: LayerPlan) -> None:
        self.in_features, self.out_features = plan.inputs, plan.outputs


class ElasticBatchNorm2d(Elastic, nn.BatchNorm2d):
    AXES: ClassVar = {
        "weight": ("writes",),
        "bias": ("writes",),
        "running_mean": ("writes",),
        "running_var": ("writes",),
    }

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.BatchNorm2d`, on the active channels; their running statistics alone are updated."""
        mean, variance = self.active("running_mean"), self.active("running_var")
        average = 0.0 if self.momentum is None else self.momentum
        update = self.training and self.track_running_stats
        if update and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                average = 1.0 / float(self.num_batches_tracked)
        output = F.batch_norm(
            input,
            mean if not self.training or self.track_running_stats else None,
            variance if not self.training or self.track_running_stats else None,
            self.active("weight"),
            self.active("bias"),
            self.training or mean is None,
            average,
            self.eps,
        )
        index = self._plan.writes
        if update and isinstance(index, Tensor):  # a gathered copy was updated: write it back
            assert mean is not None
            assert variance is not None
            assert self.running_mean is not None
            assert self.running_var is not None
            self.running_mean.index_copy_(0, index, mean)
            self.running_var.index_copy_(0, index, variance)
        return output

    def set_sizes(self, plan: LayerPlan) -> None:
        self.num_features = plan.outputs


class ElasticFrozenBatchNorm2d(Elastic, FrozenBatchNorm2d):  # type: ignore[misc]
    AXES: ClassVar = ElasticBatchNorm2d.AXES

    def forward(self, x: Tensor) -> Tensor:
        """As torchvision's, operation by operation, so that results are equal to the bit."""
        tensors = [self.active(name) for name in ("weight", "bias", "running_mean", "running_var")]
        weight, bias, mean, variance = (
            tensor.reshape(1, -1, 1, 1) for tensor in tensors if tensor is not None
        )
        eps: float = vars(self)["eps"]
        scale = weight * (variance + eps).rsqrt()
        return x * scale + (bias - mean * scale)


# The kind of a traced layer → its elastic class. Grouped convolutions are told apart by `elastic_class`.
ELASTIC: dict[str, type[Elastic]] = {
    "conv2d": ElasticConv2d,
    "grouped_conv2d": ElasticGroupedConv2d,
    "linear": ElasticLinear,
    "batch_norm": ElasticBatchNorm2d,
    "frozen_batch_norm": ElasticFrozenBatchNorm2d,
}


def elastic_class(kind: str, groups: int, original: type[nn.Module]) -> type[nn.Module]:
    """The class to swap in: the table's, or a subclass of it and the user's own class."""
    elastic = ELASTIC["grouped_conv2d" if kind == "conv2d" and groups > 1 else kind]
    if issubclass(elastic, original):
        return elastic
    return type(f"Elastic{original.__name__}", (elastic, original), {"__module__": original.__module__})


def as_index(positions: list[tuple[int, int]], size: int, device: torch.device) -> Index | None:
    """The index of ascending, disjoint ranges [start, stop) along an axis of `size` positions."""
    joined: list[tuple[int, int]] = []
    for start, stop in positions:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        elif start < stop:
            joined.append((start, stop))
    if joined == [(0, size)]:
        return None
    if len(joined) == 1:
        return slice(*joined[0])
    return torch.cat([torch.arange(start, stop, device=device) for start, stop in joined])
