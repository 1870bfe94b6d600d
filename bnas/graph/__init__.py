"""Facts about a model: which channels belong together, which blocks may go, what everything costs."""

from bnas.graph.costs import Costs, LayerCost
from bnas.graph.facts import (
    Attribute,
    Block,
    ChannelGraph,
    Group,
    Label,
    Layer,
    Level,
    Pyramid,
    Resolution,
    Segment,
    Weight,
)
from bnas.graph.trace import at_resolutions, trace

__all__ = [
    "Attribute",
    "Block",
    "ChannelGraph",
    "Costs",
    "Group",
    "Label",
    "Layer",
    "LayerCost",
    "Level",
    "Pyramid",
    "Resolution",
    "Segment",
    "Weight",
    "at_resolutions",
    "trace",
]
