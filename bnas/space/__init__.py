"""Facts → choices: the search space of a traced model, its subnet configs, and what they cost."""

from __future__ import annotations

from bnas.graph import costs as _costs
from bnas.graph.costs import Costs, LayerCost
from bnas.graph.facts import ChannelGraph
from bnas.space.canonical import canonical
from bnas.space.check import check_fits
from bnas.space.config import SubnetConfig
from bnas.space.derive import DIMENSIONS, derive_space
from bnas.space.layers import layers_of, parameters_of
from bnas.space.macs import macs_of
from bnas.space.precision import (
    PRECISIONS,
    Precision,
    Precisions,
    architecture,
    has_precisions,
    precisions_of,
    uniform,
    with_precision,
    with_precisions,
)
from bnas.space.resolution import RESOLUTION, possible_sizes, resized, resolution_of
from bnas.space.rules import SpaceRules
from bnas.space.shape import Shape, shape_of
from bnas.space.space import PRECISION, Choice, SearchSpace
from bnas.space.table import space_table, subnet_diff, subnet_table

__all__ = [
    "DIMENSIONS",
    "PRECISION",
    "PRECISIONS",
    "RESOLUTION",
    "Choice",
    "Costs",
    "LayerCost",
    "Precision",
    "Precisions",
    "SearchSpace",
    "Shape",
    "SpaceRules",
    "SubnetConfig",
    "architecture",
    "canonical",
    "check_fits",
    "costs",
    "derive_space",
    "has_precisions",
    "layer_costs",
    "layers_of",
    "macs_of",
    "parameters_of",
    "possible_sizes",
    "precisions_of",
    "resized",
    "resolution_of",
    "shape_of",
    "space_table",
    "subnet_diff",
    "subnet_table",
    "uniform",
    "with_precisions",
]


def costs(graph: ChannelGraph, space: SearchSpace, config: SubnetConfig) -> Costs:
    """Multiply-accumulates of one example at the config's resolution, and parameters, of the subnet `config`."""
    shape = shape_of(graph, space, config)
    return _costs.costs(graph, shape.widths, shape.skipped, shape.kernels, shape.resolution, shape.levels)


def layer_costs(graph: ChannelGraph, space: SearchSpace, config: SubnetConfig) -> tuple[LayerCost, ...]:
    """Costs of every active layer of the subnet `config`, in order of execution; with precisions where it has such."""
    shape = shape_of(graph, space, config)
    layers = _costs.layer_costs(
        graph, shape.widths, shape.skipped, shape.kernels, shape.resolution, shape.levels
    )
    return with_precision(space, config, layers) if has_precisions(space) else layers
