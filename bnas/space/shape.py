"""What a config means for the model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache

from bnas.graph.facts import ChannelGraph
from bnas.space.config import SubnetConfig
from bnas.space.space import Choice, SearchSpace


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a config means for the model.

    widths: active units of every elastic group.
    skipped: blocks that are left out.
    kernels: the largest side of the kernel of every layer with an elastic one.
    resolution: height and width of the input images; None: the example's own.
    levels: how many levels stay of every pyramid that has a choice of them.
    """

    widths: dict[str, int] = field(default_factory=dict)
    skipped: frozenset[str] = frozenset()
    kernels: dict[str, int] = field(default_factory=dict)
    resolution: int | None = None
    levels: dict[str, int] = field(default_factory=dict)


def shape_of(graph: ChannelGraph, space: SearchSpace, config: SubnetConfig) -> Shape:
    """Translate a config; precisions leave the shape as it is. Raises SpaceError for one outside the space."""
    space.validate(config)
    values, groups = config.values, graph.group_by_name
    widths: dict[str, int] = {}
    kernels: dict[str, int] = {}
    levels: dict[str, int] = {}
    skipped: set[str] = set()
    resolution = None
    for choice in space.choices:
        value = values[choice.name]
        if choice.dim == "width":
            for name in choice.targets:
                widths[name] = value // groups[name].channels_per_unit
        elif choice.dim == "depth":
            skipped.update(skipped_blocks(choice, value))
        elif choice.dim == "kernel":
            for name in choice.targets:
                kernels[name] = value
        elif choice.dim == "levels":
            for name in choice.targets:
                levels[name] = value
        elif choice.dim == "resolution" and value != choice.values[-1]:
            resolution = value
    return Shape(
        widths=widths, skipped=frozenset(skipped), kernels=kernels, resolution=resolution, levels=levels
    )


def skipped_blocks(choice: Choice, depth: int) -> Collection[str]:
    """The targets of a depth choice that are left out when `depth` of them are kept."""
    if choice.pattern == "first" or depth == len(choice.targets):
        return choice.targets[depth:]
    kept = spread(depth, len(choice.targets))
    return [name for position, name in enumerate(choice.targets) if position not in kept]


@cache
def spread(kept: int, count: int) -> frozenset[int]:
    """Positions of `kept` of `count` blocks in a row: evenly spaced, the first among them."""
    return frozenset(position * count // kept for position in range(kept))
