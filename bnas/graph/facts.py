"""What is true of a model's channels: the frozen result of tracing.

A *group* is a set of channels that must keep or lose the same members everywhere: the output channels of a
convolution, united with everything added to them. A *label* says which group's channels lie along one axis
of a tensor: a tuple of segments, in order. `Segment(group="a", units=64, repeat=49)` is 64 units of group
a, each covering 49 consecutive positions (as after flattening 64×7×7).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, kw_only=True)
class Segment:
    """`units` units of `group`, each `repeat` consecutive positions; `group=None` is of fixed size."""

    group: str | None
    units: int
    repeat: int = 1

    @property
    def size(self) -> int:
        return self.units * self.repeat


Label = tuple[Segment, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Channels that share one width, named after the first layer that makes them.

    `units` is the number of indivisible units and `channels_per_unit` how many channels of the naming layer
    one unit is (more than 1 where a grouped convolution reads them). `why` holds the reasons why the width
    must stay as it is; without any the group is free.
    """

    name: str
    units: int
    channels_per_unit: int = 1
    why: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        return self.units * self.channels_per_unit

    @property
    def free(self) -> bool:
        return not self.why


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One module with weights: the label its input channels carry and the one its output channels carry.

    `positions` counts output positions of one image (height × width; all calls of a shared module added
    up). `groups` and `kernel` are the convolution's own.
    """

    name: str
    kind: str
    reads: Label
    writes: Label
    positions: int
    kernel: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = False


@dataclass(frozen=True, kw_only=True)
class Block:
    """A module that may be skipped because it adds its very input to its output.

    Blocks that follow one another directly form a `stage`, in order.
    """

    name: str
    stage: str


@dataclass(frozen=True, kw_only=True)
class Other:
    """Parameters and multiply-accumulates of a module that no layer describes; they never change."""

    module: str
    parameters: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class ChannelGraph:
    """All facts about a traced model; tuples are in order of execution."""

    groups: tuple[Group, ...]
    layers: tuple[Layer, ...]
    blocks: tuple[Block, ...]
    others: tuple[Other, ...] = ()
    input_shapes: tuple[tuple[int, ...], ...] = ()

    @cached_property
    def group_by_name(self) -> dict[str, Group]:
        return {group.name: group for group in self.groups}

    @cached_property
    def layer_by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Block names of every stage, in order of execution."""
        stages: dict[str, tuple[str, ...]] = {}
        for block in self.blocks:
            stages[block.stage] = (*stages.get(block.stage, ()), block.name)
        return stages


def is_inside(name: str, ancestor: str) -> bool:
    """Whether module path `name` is `ancestor` or lies below it."""
    return not ancestor or name == ancestor or name.startswith(ancestor + ".")
