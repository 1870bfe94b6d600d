"""Costs by hand, of graphs written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bnas.errors import SpaceError
from bnas.graph import Block, ChannelGraph, Costs, Group, Label, Layer, Resolution, Segment, Weight
from bnas.graph.costs import active_size, costs, layer_costs


def of(group: str | None, units: int, repeat: int = 1) -> Label:
    return (Segment(group=group, units=units, repeat=repeat),)


def fixed(*sizes: int) -> tuple[Label, ...]:
    return tuple(of(None, size) for size in sizes)


A = of("a", 8)
# 3 → a (5×5) → norm → depthwise 3×3 → b (1×1, in a block) → attention over 2 heads h of 4 → 10 classes
GRAPH = ChannelGraph(
    groups=(Group(name="a", units=8), Group(name="b", units=8), Group(name="h", units=2, channels_per_unit=4)),
    layers=(
        Layer(name="a", kind="conv2d", reads=fixed(3)[0], writes=A, positions=100, kernel=(5, 5), bias=True,
              kernels=(3, 5)),
        Layer(name="norm", kind="batch_norm", reads=A, writes=A, positions=0, bias=True),
        Layer(name="dw", kind="conv2d", reads=A, writes=A, positions=100, kernel=(3, 3), groups=8),
        Layer(name="block.b", kind="conv2d", reads=A, writes=of("b", 8), positions=100, kernel=(1, 1)),
        Layer(name="scores", kind="matmul", reads=fixed(4)[0], writes=fixed(7)[0], positions=7,
              axes=(of("h", 2),)),
        Layer(name="fc", kind="linear", reads=of("h", 2, 4), writes=fixed(10)[0], positions=1, bias=True),
    ),
    blocks=(Block(name="block", stage="block"),),
    weights=(
        Weight(name="a.weight", axes=(A, *fixed(3, 5, 5))),
        Weight(name="a.bias", axes=(A,)),
        Weight(name="norm.weight", axes=(A,)),
        Weight(name="norm.bias", axes=(A,)),
        Weight(name="norm.running_mean", axes=(A,), trainable=False),
        Weight(name="dw.weight", axes=(A, *fixed(1, 3, 3))),
        Weight(name="block.b.weight", axes=(of("b", 8), A, *fixed(1, 1))),
        Weight(name="block.shared", axes=(A,), aliases=("shared",)),
        Weight(name="position", axes=fixed(1, 50)),
        Weight(name="fc.weight", axes=(*fixed(10), of("h", 2, 4))),
        Weight(name="fc.bias", axes=fixed(10)),
    ),
    resolutions=(Resolution(size=16, positions=(25, 0, 25, 25, 7, 1)),),
)  # fmt: skip


def test_active_size() -> None:
    label = (Segment(group="a", units=8), Segment(group=None, units=3), Segment(group="h", units=2, repeat=4))
    assert active_size(label, {}) == 8 + 3 + 8
    assert active_size(label, {"a": 5, "h": 1}) == 5 + 3 + 4


def test_the_whole() -> None:
    macs = 8 * 3 * 25 * 100 + 8 * 9 * 100 + 8 * 8 * 100 + 4 * 7 * 7 * 2 + 8 * 10
    parameters = (600 + 8) + 16 + 72 + 64 + 8 + 50 + (80 + 10)
    assert costs(GRAPH) == Costs(macs=macs, parameters=parameters)


def test_a_small_one() -> None:
    found = costs(GRAPH, {"a": 4, "h": 1}, {"block"}, {"a": 3}, 16)
    macs = 4 * 3 * 9 * 25 + 4 * 9 * 25 + 4 * 7 * 7 + 4 * 10
    # the block's convolution is gone; `shared` has a name outside of it
    parameters = (4 * 3 * 9 + 4) + 8 + 36 + 4 + 50 + (40 + 10)
    assert found == Costs(macs=macs, parameters=parameters)


def test_layers_one_by_one() -> None:
    by_name = {layer.name: layer for layer in layer_costs(GRAPH, {"a": 4}, set(), {"a": 3})}
    conv, norm, dw, scores = by_name["a"], by_name["norm"], by_name["dw"], by_name["scores"]
    assert (conv.inputs, conv.outputs, conv.kernel, conv.groups) == (3, 4, 9, 1)
    assert (conv.weights, conv.parameters, conv.macs, conv.positions) == (108, 112, 10800, 100)
    assert (norm.macs, norm.parameters, norm.weights, norm.groups) == (0, 8, 8, 1)
    assert (dw.inputs, dw.groups, dw.weights, dw.macs) == (4, 4, 36, 3600)
    assert (scores.macs, scores.parameters, scores.weights) == (4 * 7 * 7 * 2, 0, 0)
    assert [layer.name for layer in layer_costs(GRAPH, skipped={"block"})] == [
        "a",
        "norm",
        "dw",
        "scores",
        "fc",
    ]


def test_a_size_that_was_not_traced() -> None:
    with pytest.raises(SpaceError, match="resolution: 24 is not one of the traced sizes: 16"):
        costs(GRAPH, resolution=24)
    with pytest.raises(SpaceError, match="traced sizes: none"):
        costs(replace(GRAPH, resolutions=()), resolution=24)
