"""Multiply-accumulates and parameters of any subnet, computed from facts without running it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from math import prod

from bnas.errors import SpaceError
from bnas.graph.facts import ChannelGraph, Label, Layer, Resolution, Weight, is_inside


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """The cost of one active layer for one image.

    `macs` multiply-accumulates (norms: none, they fold into the convolution before), `parameters` trainable
    numbers, `weights` numbers in the weight tensor, `inputs` and `outputs` active channels, `positions`
    output positions (height × width), `kernel` the product of its sides, `groups` active convolution groups,
    `stride` the product of the strides, `input_positions` positions read, `then` the pointwise functions that
    follow (see `Layer`). `precision` is what it runs in where layers differ in that; "": as the hardware is asked to.
    """

    name: str
    kind: str
    macs: int
    parameters: int
    weights: int
    inputs: int
    outputs: int
    positions: int
    kernel: int
    groups: int
    stride: int = 1
    input_positions: int = 0
    then: tuple[str, ...] = ()
    precision: str = ""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Multiply-accumulates of one image, and trainable parameters."""

    macs: int
    parameters: int


def active_size(label: Label, widths: Mapping[str, int]) -> int:
    """Positions along an axis when each group in `widths` keeps its first so many units."""
    return sum(
        [
            (segment.units if segment.group is None else widths.get(segment.group, segment.units))
            * segment.repeat
            for segment in label
        ]
    )


def layer_costs(
    graph: ChannelGraph,
    widths: Mapping[str, int] | None = None,
    skipped: Set[str] = frozenset(),
    kernels: Mapping[str, int] | None = None,
    resolution: int | None = None,
    levels: Mapping[str, int] | None = None,
) -> tuple[LayerCost, ...]:
    """Costs of the layers outside the `skipped` blocks, in order of execution.

    Args:
        widths: active units by group; groups not named are whole.
        skipped: blocks that are left out.
        kernels: the largest side of the kernel by layer; kernels of layers not named are whole.
        resolution: size in pixels of the input images; None: that of the example.
        levels: how many levels stay by pyramid; pyramids not named are whole.

    Raises:
        SpaceError: the graph does not tell of images of this size.
    """
    widths, kernels = widths or {}, kernels or {}
    own: dict[str, list[Weight]] = {}
    for weight in graph.weights:
        own.setdefault(weight.module, []).append(weight)
    skipped, dropped = _without_levels(graph, skipped, resolution, levels or {})
    return tuple(
        _cost(layer, positions - dropped[layer.name], own, widths, kernels)
        for layer, positions in zip(graph.layers, _positions(graph, resolution), strict=True)
        if not any(is_inside(layer.name, block) for block in skipped)
    )


def costs(
    graph: ChannelGraph,
    widths: Mapping[str, int] | None = None,
    skipped: Set[str] = frozenset(),
    kernels: Mapping[str, int] | None = None,
    resolution: int | None = None,
    levels: Mapping[str, int] | None = None,
) -> Costs:
    """The total over all layers, and over all parameters; arguments as of `layer_costs`."""
    layers = layer_costs(graph, widths, skipped, kernels, resolution, levels)
    skipped, _ = _without_levels(graph, skipped, resolution, levels or {})
    kept = (
        weight
        for weight in graph.weights
        if weight.trainable
        and not all(
            any(is_inside(name.rpartition(".")[0], block) for block in skipped)
            for name in (weight.name, *weight.aliases)
        )
    )
    return Costs(
        macs=sum(layer.macs for layer in layers),
        parameters=sum(_numbers(graph, weight, widths or {}, kernels or {}) for weight in kept),
    )


def weight_of(graph: ChannelGraph, layer: Layer) -> Weight | None:
    """The weight that `layer` computes with: its module's `weight`, or the tensor it is named after."""
    return graph.weight_by_name.get(f"{layer.name}.weight") or graph.weight_by_name.get(layer.name)


def _cost(
    layer: Layer,
    positions: int,
    own: Mapping[str, list[Weight]],
    widths: Mapping[str, int],
    kernels: Mapping[str, int],
) -> LayerCost:
    inputs, outputs = active_size(layer.reads, widths), active_size(layer.writes, widths)
    kernel = prod(_sides(layer.kernel, kernels.get(layer.name)))
    per_group = active_size(layer.reads, {}) // layer.groups if layer.groups > 1 else inputs
    norm = layer.kind.endswith("norm")
    sizes = {
        weight.name: _shape(weight, layer, widths, kernels)
        for weight in own.get(layer.name, ())
        if weight.trainable
    }
    pairs = outputs * per_group * kernel
    weights = 0 if layer.kind == "matmul" else pairs
    weights = prod(sizes[name]) if (name := f"{layer.name}.weight") in sizes else weights
    parameters = sum(prod(shape) for shape in sizes.values()) if sizes or norm else weights
    macs = 0 if norm else pairs * positions * prod([active_size(axis, widths) for axis in layer.axes])
    return LayerCost(
        name=layer.name,
        kind=layer.kind,
        macs=macs,
        parameters=parameters,
        weights=parameters if norm else weights,
        inputs=inputs,
        outputs=outputs,
        positions=positions,
        kernel=kernel,
        groups=1 if norm else inputs // per_group,
        stride=layer.stride,
        input_positions=_read(layer, positions),
        then=layer.then,
    )


def _read(layer: Layer, positions: int) -> int:
    """Positions that `layer` reads where it makes `positions`: in proportion, as traced."""
    if not layer.input_positions or not layer.positions:
        return positions
    return round(layer.input_positions * positions / layer.positions)


def _numbers(
    graph: ChannelGraph, weight: Weight, widths: Mapping[str, int], kernels: Mapping[str, int]
) -> int:
    layer = graph.layer_by_name.get(weight.module) if weight.module in kernels else None
    return prod(_shape(weight, layer, widths, kernels))


def _shape(
    weight: Weight, layer: Layer | None, widths: Mapping[str, int], kernels: Mapping[str, int]
) -> tuple[int, ...]:
    """Active sizes of a weight's axes."""
    shape = [active_size(label, widths) for label in weight.axes]
    if layer is not None and layer.name in kernels and weight.name == f"{layer.name}.weight":
        shape[2:] = _sides(layer.kernel, kernels[layer.name])
    return tuple(shape)


def _sides(kernel: tuple[int, ...], size: int | None) -> tuple[int, ...]:
    return kernel if size is None else tuple(min(side, size) for side in kernel)


def _without_levels(
    graph: ChannelGraph, skipped: Set[str], resolution: int | None, levels: Mapping[str, int]
) -> tuple[Set[str], Counter[str]]:
    """`skipped` with the modules of dropped levels, and the output positions that layers have for these."""
    if not levels:
        return skipped, Counter()
    found = _at(graph, resolution)
    pyramids = graph.pyramids if found is None else found.pyramids
    dropped = [level for own in pyramids if own.name in levels for level in own.dropped(levels[own.name])]
    positions: Counter[str] = Counter()
    for level in dropped:
        positions.update(dict(level.positions))
    return {*skipped, *(module for level in dropped for module in level.modules)}, positions


def _positions(graph: ChannelGraph, resolution: int | None) -> Iterator[int]:
    found = _at(graph, resolution)
    return iter(found.positions if found is not None else [layer.positions for layer in graph.layers])


def _at(graph: ChannelGraph, resolution: int | None) -> Resolution | None:
    found = next((own for own in graph.resolutions if own.size == resolution), None)
    if found is None and resolution is not None:
        known = ", ".join(str(own.size) for own in graph.resolutions) or "none"
        raise SpaceError(f"resolution: {resolution} is not one of the traced sizes: {known}")
    return found
