"""Of all configs that are one network, the one that stands for them.

The width of a group that skipped blocks alone read and write changes nothing, nor does a kernel in such a block or its
precision, nor how many blocks stay inside of it. Such a choice is idle: in the canonical config it is at its largest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from bnas.graph.facts import ChannelGraph, Label, is_inside
from bnas.space.config import SubnetConfig
from bnas.space.shape import skipped_blocks
from bnas.space.space import PRECISION, Choice, SearchSpace

Gone = frozenset[tuple[str, frozenset[int]]]
"""When a place in the network is gone: where one of these choices has one of these values."""


def canonical(graph: ChannelGraph, space: SearchSpace) -> Callable[[SubnetConfig], SubnetConfig]:
    """The function from a config of `space` to its canonical one: the same network, idle choices at their largest.

    It takes microseconds for a subnet of ResNet-50. It raises SpaceError for a config outside the space.
    """
    idle: dict[frozenset[Gone], dict[str, int]] = defaultdict(dict)
    nested: list[tuple[Choice, tuple[Gone, ...]]] = []
    places = _places_of_groups(graph)
    for choice in space.choices:
        if choice.dim == "depth":
            gone = tuple(_gone(block, graph, space, strictly=True) for block in choice.targets)
            if any(gone):
                nested.append((choice, gone))
        elif choice.dim in ("width", "kernel", PRECISION):
            wide = choice.dim == "width"
            own = set(chain.from_iterable(places[group] if wide else (group,) for group in choice.targets))
            found = frozenset(_gone(place, graph, space) for place in own)
            if found and all(found):  # a place that never goes keeps the choice from being idle
                idle[found][choice.name] = choice.values[-1]
    rules = [(tuple(tuple(gone) for gone in found), names) for found, names in idle.items()]

    def canonical_of(config: SubnetConfig) -> SubnetConfig:
        space.validate(config)
        values = config.values
        raised: dict[str, int] = {}
        for places, names in rules:
            for place in places:
                for name, among in place:
                    if values[name] in among:
                        break
                else:
                    break  # this place is there
            else:
                raised |= names
        for choice, gone in nested:
            raised[choice.name] = _most_blocks(choice, values[choice.name], _absent(choice, gone, config))
        if all(values[name] == value for name, value in raised.items()):
            return config
        return SubnetConfig({**values, **raised})

    return canonical_of


def _places_of_groups(graph: ChannelGraph) -> dict[str, set[str]]:
    """By group, the module paths at which its channels are read, written, or kept as weights or numbers."""
    places: dict[str, set[str]] = defaultdict(set)

    def add(labels: Iterable[Label], *names: str) -> None:
        for segment in chain.from_iterable(labels):
            if segment.group is not None:
                places[segment.group].update(names)

    for layer in graph.layers:
        add((layer.reads, layer.writes, *layer.axes), layer.name)
    for weight in graph.weights:
        add(weight.axes, *(name.rpartition(".")[0] for name in (weight.name, *weight.aliases)))
    for attribute in graph.attributes:
        add(attribute.labels, attribute.module)
    return places


def _gone(place: str, graph: ChannelGraph, space: SearchSpace, *, strictly: bool = False) -> Gone:
    """When what lies at a module path is gone; `strictly`: because of what is around it."""

    def covers(paths: Iterable[str]) -> bool:
        return any(is_inside(place, path) and not (strictly and place == path) for path in paths)

    found = []
    for choice in space.choices:
        values = frozenset(value for value in choice.values if covers(_left_out(choice, value, graph)))
        if values:
            found.append((choice.name, values))
    return frozenset(found)


def _left_out(choice: Choice, value: int, graph: ChannelGraph) -> Iterator[str]:
    """The paths of the modules that are not there when a choice has this value."""
    if choice.dim == "depth":
        yield from skipped_blocks(choice, value)
    elif choice.dim == "levels":
        for name in choice.targets:
            for level in graph.pyramid_by_name[name].dropped(value):
                yield from level.modules


def _absent(choice: Choice, gone: tuple[Gone, ...], config: SubnetConfig) -> set[str]:
    """Those blocks of a depth that are gone because of what is around them."""
    return {
        block
        for block, own in zip(choice.targets, gone, strict=True)
        if any(config[name] in among for name, among in own)
    }


def _most_blocks(choice: Choice, depth: int, absent: set[str]) -> int:
    """The largest depth that leaves out the same blocks, but for those that are absent anyway."""
    if not absent:
        return depth
    wanted = set(skipped_blocks(choice, depth)) - absent
    return max(value for value in choice.values if set(skipped_blocks(choice, value)) - absent == wanted)
