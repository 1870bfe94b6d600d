"""Multiply-accumulates of many subnets of one space, as fast as a training that draws by them needs it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import chain

from bnas.graph import costs
from bnas.graph.facts import ChannelGraph, Layer, is_inside
from bnas.space.config import SubnetConfig
from bnas.space.shape import shape_of
from bnas.space.space import PRECISION, Choice, SearchSpace

MOST = 100_000  # remembered costs of layers; a layer that reads many choices has more than are worth keeping


def macs_of(graph: ChannelGraph, space: SearchSpace) -> Callable[[SubnetConfig], int]:
    """The function from a config to its multiply-accumulates of one example, equal to `costs(...).macs`.

    It remembers the cost of each layer by the values of the choices that bear upon it: tens of microseconds
    for a subnet of ResNet-50, where `costs` takes a millisecond. The function raises SpaceError for a config
    outside the space.
    """
    names = {layer.name: tuple(_choices_of(layer, space)) for layer in graph.layers}
    known: dict[tuple[str, tuple[int, ...]], int] = {}

    def macs(config: SubnetConfig) -> int:
        values = config.values
        space.validate(config)
        keys = [(layer, tuple([values[name] for name in own])) for layer, own in names.items()]
        try:
            return sum([known[key] for key in keys])
        except KeyError:
            if len(known) > MOST:
                known.clear()
            known.update(_by_layer(keys, graph, space, config))
            return sum([known[key] for key in keys])

    return macs


def _by_layer(
    keys: list[tuple[str, tuple[int, ...]]], graph: ChannelGraph, space: SearchSpace, config: SubnetConfig
) -> dict[tuple[str, tuple[int, ...]], int]:
    """The multiply-accumulates of each layer, by its key; those of a layer left out are 0."""
    shape = shape_of(graph, space, config)
    layers = costs.layer_costs(
        graph, shape.widths, shape.skipped, shape.kernels, shape.resolution, shape.levels
    )
    found: Counter[str] = Counter()
    for layer in layers:
        found[layer.name] += layer.macs
    return {key: found[key[0]] for key in keys}


def _choices_of(layer: Layer, space: SearchSpace) -> list[str]:
    """Names of the choices that the cost of a layer follows from."""
    labels = chain(layer.reads, layer.writes, *layer.axes)
    groups = {segment.group for segment in labels}
    return [choice.name for choice in space.choices if _bears_upon(choice, layer, groups)]


def _bears_upon(choice: Choice, layer: Layer, groups: set[str | None]) -> bool:
    if choice.dim == "width":
        return not groups.isdisjoint(choice.targets)
    if choice.dim == "depth":
        return any(is_inside(layer.name, block) for block in choice.targets)
    if choice.dim == "kernel":
        return layer.name in choice.targets
    return choice.dim != PRECISION  # the resolution and the levels of pyramids: of the positions of any layer
