"""Multiply-accumulates and parameters of any subnet, computed from facts without running it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from math import prod

from bnas.graph.facts import ChannelGraph, Label, Layer, is_inside

_NORMS = ("batch_norm", "frozen_batch_norm")


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """The cost of one active layer for one image.

    `macs` multiply-accumulates (norms: none, they fold into the convolution before), `parameters` trainable
    numbers, `weights` numbers in the weight tensor, `inputs` and `outputs` active channels, `positions`
    output positions (height × width), `groups` active convolution groups.
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


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Multiply-accumulates of one image, and trainable parameters."""

    macs: int
    parameters: int


def active_size(label: Label, widths: Mapping[str, int]) -> int:
    """Positions along an axis when each group in `widths` keeps its first so many units."""
    return sum(
        (segment.units if segment.group is None else widths.get(segment.group, segment.units))
        * segment.repeat
        for segment in label
    )


def layer_costs(
    graph: ChannelGraph, widths: Mapping[str, int] | None = None, skipped: Set[str] = frozenset()
) -> tuple[LayerCost, ...]:
    """Costs of the layers outside the `skipped` blocks, in order of execution.

    `widths` maps group names to active units; groups not named are whole.
    """
    return tuple(
        _cost(layer, widths or {})
        for layer in graph.layers
        if not any(is_inside(layer.name, block) for block in skipped)
    )


def costs(
    graph: ChannelGraph, widths: Mapping[str, int] | None = None, skipped: Set[str] = frozenset()
) -> Costs:
    """The total over all layers and everything no layer describes."""
    layers = layer_costs(graph, widths, skipped)
    others = [other for other in graph.others if not any(is_inside(other.module, block) for block in skipped)]
    return Costs(
        macs=sum(layer.macs for layer in layers) + sum(other.macs for other in others),
        parameters=sum(layer.parameters for layer in layers) + sum(other.parameters for other in others),
    )


def _cost(layer: Layer, widths: Mapping[str, int]) -> LayerCost:
    inputs, outputs = active_size(layer.reads, widths), active_size(layer.writes, widths)
    if layer.kind in _NORMS:
        parameters = 2 * outputs if layer.kind == "batch_norm" and layer.bias else 0
        return LayerCost(
            name=layer.name, kind=layer.kind, macs=0, parameters=parameters, weights=parameters,
            inputs=inputs, outputs=outputs, positions=layer.positions, kernel=1, groups=1,
        )  # fmt: skip
    inputs_per_group = _full(layer.reads) // layer.groups if layer.groups > 1 else inputs
    weights = outputs * inputs_per_group * prod(layer.kernel)
    return LayerCost(
        name=layer.name,
        kind=layer.kind,
        macs=weights * layer.positions,
        parameters=weights + (outputs if layer.bias else 0),
        weights=weights,
        inputs=inputs,
        outputs=outputs,
        positions=layer.positions,
        kernel=prod(layer.kernel),
        groups=inputs // inputs_per_group,
    )


def _full(label: Label) -> int:
    return sum(segment.size for segment in label)
