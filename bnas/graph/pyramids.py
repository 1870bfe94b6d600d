"""Feature pyramids: which of their levels a detector can do without, and what goes with each level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnas.graph.facts import Layer, Level, Pyramid

if TYPE_CHECKING:
    from bnas.graph.state import Trace, Value


@dataclass
class OpenPyramid:
    """A pyramid while tracing; becomes a `Pyramid`.

    `levels` are the names of its maps, the first `body` of them made of maps of the body; `outputs` are the
    values of the maps, call by call. `followers` are the modules that must know which levels there are,
    `reads` the highest level, by its number, that each of those which read some has among them.
    """

    name: str
    levels: tuple[str, ...]
    body: int
    modules: tuple[tuple[str, ...], ...]
    type: str
    outputs: list[tuple[Value, ...]] = field(default_factory=list)
    followers: dict[str, None] = field(default_factory=dict)
    reads: list[int] = field(default_factory=list)
    why: dict[str, None] = field(default_factory=dict)


def find_pyramids(state: Trace, layers: tuple[Layer, ...]) -> tuple[Pyramid, ...]:
    """The pyramids of a finished trace; `layers` are its layers as facts."""
    owners: dict[str, list[str]] = {}
    for pyramid in state.pyramids.values():
        for path in pyramid.followers:
            owners.setdefault(path, []).append(pyramid.name)
    return tuple(_pyramid(state, pyramid, layers, owners) for pyramid in state.pyramids.values())


def _pyramid(
    state: Trace, pyramid: OpenPyramid, layers: tuple[Layer, ...], owners: Mapping[str, list[str]]
) -> Pyramid:
    count = min([pyramid.body - 1, *pyramid.reads])
    why = [*pyramid.why, *_mixed(state, pyramid, count)]
    why += [f"shares {path} with another pyramid" for path in pyramid.followers if len(owners[path]) > 1]
    if count < 1 and not why:
        why.append("has a single level that can stay alone")
    return Pyramid(
        name=pyramid.name,
        levels=pyramid.levels,
        droppable=() if why else tuple(_level(state, pyramid, layers, number) for number in range(count)),
        followers=tuple(pyramid.followers),
        why=tuple(dict.fromkeys(why)),
        type=pyramid.type,
    )


def _level(state: Trace, pyramid: OpenPyramid, layers: tuple[Layer, ...], number: int) -> Level:
    levels = frozenset(((pyramid.name, pyramid.levels[number]),))
    positions = []
    for layer in layers:
        opened = state.layers[layer.name]
        if own := opened.shares.get(levels):
            positions.append((layer.name, own * layer.positions // opened.positions))
    return Level(name=pyramid.levels[number], modules=pyramid.modules[number], positions=tuple(positions))


def _mixed(state: Trace, pyramid: OpenPyramid, count: int) -> Iterator[str]:
    """Why levels that are read cannot be read without those that may be dropped, the `count` finest."""
    every, body = set(pyramid.levels), set(pyramid.levels[: pyramid.body])
    droppable = set(pyramid.levels[:count])
    for layer in state.layers.values():
        read = [{level for name, level in levels if name == pyramid.name} for levels in layer.shares]
        alone = {level for own in read if len(own) == 1 for level in own}
        if any(1 < len(own) < len(every) and own & droppable for own in read):
            yield f"has levels that {layer.name} reads mixed with some others"
        elif alone & droppable and not body <= alone:
            yield f"has levels that {layer.name} reads and others that it does not"
