"""Facts → choices: the search space of a traced model, its subnet configs, and what they cost."""

from __future__ import annotations

from bnas.graph import costs as _costs
from bnas.graph.costs import Costs, LayerCost
from bnas.graph.facts import ChannelGraph
from bnas.space.config import SubnetConfig
from bnas.space.derive import Shape, SpaceRules, check_fits, derive_space, shape_of
from bnas.space.space import Choice, SearchSpace

__all__ = [
    "Choice",
    "Costs",
    "LayerCost",
    "SearchSpace",
    "Shape",
    "SpaceRules",
    "SubnetConfig",
    "check_fits",
    "costs",
    "derive_space",
    "layer_costs",
    "shape_of",
]


def costs(graph: ChannelGraph, space: SearchSpace, config: SubnetConfig) -> Costs:
    """Multiply-accumulates of one image and parameters of the subnet `config`."""
    shape = shape_of(graph, space, config)
    return _costs.costs(graph, shape.widths, shape.skipped)


def layer_costs(graph: ChannelGraph, space: SearchSpace, config: SubnetConfig) -> tuple[LayerCost, ...]:
    """Costs of every active layer of the subnet `config`, in order of execution."""
    shape = shape_of(graph, space, config)
    return _costs.layer_costs(graph, shape.widths, shape.skipped)
