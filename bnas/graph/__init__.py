"""Facts about a model: which channels belong together, which blocks may go, what everything costs."""

from bnas.graph.costs import Costs, LayerCost
from bnas.graph.facts import Block, ChannelGraph, Group, Label, Layer, Other, Segment
from bnas.graph.trace import trace

__all__ = [
    "Block",
    "ChannelGraph",
    "Costs",
    "Group",
    "Label",
    "Layer",
    "LayerCost",
    "Other",
    "Segment",
    "trace",
]
