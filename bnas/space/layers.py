"""Layers and parameters of many subnets of one space, as fast as a search that tries thousands of them needs it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from bnas.graph import costs
from bnas.graph.costs import LayerCost
from bnas.graph.facts import ChannelGraph, Label, Layer, Weight, is_inside
from bnas.space.config import SubnetConfig
from bnas.space.precision import part_of, with_precision
from bnas.space.shape import shape_of
from bnas.space.space import PRECISION, Choice, SearchSpace

MOST = 100_000  # remembered layers, and remembered weights


def layers_of(graph: ChannelGraph, space: SearchSpace) -> Callable[[SubnetConfig], tuple[LayerCost, ...]]:
    """The function from a config to what `layer_costs` tells of it.

    It remembers each layer by the values of the choices that bear upon it: tens of microseconds for a subnet of
    ResNet-50, where `layer_costs` takes more than half a millisecond. It raises SpaceError for a config outside the
    space.
    """
    own_weights: dict[str, list[Weight]] = defaultdict(list)
    for weight in graph.weights:
        own_weights[weight.module].append(weight)
    names = []
    for layer in graph.layers:
        axes = [axis for weight in own_weights[layer.name] for axis in weight.axes]
        names.append(_choices(space, [layer.name], [layer.reads, layer.writes, *layer.axes, *axes]))
    known: dict[tuple[int, tuple[int, ...]], LayerCost | None] = {}

    def layers(config: SubnetConfig) -> tuple[LayerCost, ...]:
        values = config.values
        space.validate(config)
        keys = [(place, tuple([values[name] for name in own])) for place, own in enumerate(names)]
        try:
            found = [known[key] for key in keys]
        except KeyError:
            if len(known) > MOST:
                known.clear()
            found = _placed(graph.layers, _computed(graph, space, config))
            known.update(zip(keys, found, strict=True))
        return tuple([layer for layer in found if layer is not None])

    return layers


def parameters_of(graph: ChannelGraph, space: SearchSpace) -> Callable[[SubnetConfig], int]:
    """The function from a config to its trainable parameters, those of `costs(...)`; as fast as `layers_of`."""
    sharing: dict[tuple[str, ...], list[Weight]] = defaultdict(list)  # by the choices that bear upon them
    for weight in graph.weights:
        if weight.trainable:
            paths = [name.rpartition(".")[0] for name in (weight.name, *weight.aliases)]
            sharing[_choices(space, paths, weight.axes)].append(weight)
    parts = [(names, _part(graph, weights)) for names, weights in sharing.items()]
    known: dict[tuple[int, tuple[int, ...]], int] = {}

    def parameters(config: SubnetConfig) -> int:
        values = config.values
        space.validate(config)
        total = 0
        for place, (names, part) in enumerate(parts):
            key = place, tuple([values[name] for name in names])
            if key not in known:
                if len(known) > MOST:
                    known.clear()
                shape = shape_of(graph, space, config)
                total_of = costs.costs(part, shape.widths, shape.skipped, shape.kernels, None, shape.levels)
                known[key] = total_of.parameters
            total += known[key]
        return total

    return parameters


def _part(graph: ChannelGraph, weights: Sequence[Weight]) -> ChannelGraph:
    """The graph with those weights alone, and their layers."""
    modules = {weight.module for weight in weights}
    layers = tuple(layer for layer in graph.layers if layer.name in modules)
    return replace(graph, weights=tuple(weights), layers=layers, resolutions=())


def _computed(graph: ChannelGraph, space: SearchSpace, config: SubnetConfig) -> tuple[LayerCost, ...]:
    shape = shape_of(graph, space, config)
    layers = costs.layer_costs(
        graph, shape.widths, shape.skipped, shape.kernels, shape.resolution, shape.levels
    )
    return with_precision(space, config, layers)


def _placed(layers: Iterable[Layer], there: Sequence[LayerCost]) -> list[LayerCost | None]:
    """For each of all layers its cost, None where it is left out; `there` are the others, in the same order."""
    names, rest = {layer.name for layer in there}, iter(there)
    return [next(rest) if layer.name in names else None for layer in layers]


def _choices(space: SearchSpace, paths: Sequence[str], labels: Iterable[Label]) -> tuple[str, ...]:
    """Names of the choices that bear upon what has these labels and lies at these module paths."""
    groups = {segment.group for label in labels for segment in label}
    parts = tuple(choice.targets[0] for choice in space.choices if choice.dim == PRECISION)
    own = {part_of(path, parts) for path in paths}

    def bears_upon(choice: Choice) -> bool:
        if choice.dim == "width":
            return not groups.isdisjoint(choice.targets)
        if choice.dim == "depth":
            return any(is_inside(path, block) for path in paths for block in choice.targets)
        if choice.dim == "kernel":
            return not set(paths).isdisjoint(choice.targets)
        if choice.dim == PRECISION:
            return choice.targets[0] in own
        return True  # the resolution and the levels of pyramids: upon anything

    return tuple(choice.name for choice in space.choices if bears_upon(choice))
