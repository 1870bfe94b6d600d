"""Multiply-accumulates and parameters, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nets import conv, facts
from torch import nn

from bnas.errors import SpaceError
from bnas.graph import ChannelGraph, Costs, Resolution
from bnas.graph.costs import costs, layer_costs


@pytest.fixture(scope="module")
def graph() -> ChannelGraph:
    """3 → 8 (3×3) → norm → grouped 8 → 8 in 4 (5×5) → pooled → 4; on 8×8 images."""
    return facts(
        lambda m, x: m.last(m.grouped(m.norm(m.a(x))).mean((2, 3))),
        a=conv(3, 8), norm=nn.BatchNorm2d(8), grouped=nn.Conv2d(8, 8, 5, padding=2, groups=4, bias=False),
        last=nn.Linear(8, 4),
    )  # fmt: skip


def test_whole(graph: ChannelGraph) -> None:
    macs = 64 * 8 * 3 * 9 + 64 * 8 * 2 * 25 + 8 * 4
    assert costs(graph) == Costs(macs=macs, parameters=(8 * 27 + 8) + 16 + 8 * 2 * 25 + (8 * 4 + 4))


def test_half_the_groups(graph: ChannelGraph) -> None:
    """2 of 4 groups: 4 channels, each reading 2."""
    assert costs(graph, {"a": 2}) == Costs(
        macs=64 * 4 * 27 + 64 * 4 * 50 + 16, parameters=(4 * 27 + 4) + 8 + 4 * 50 + (16 + 4)
    )
    grouped = layer_costs(graph, {"a": 2})[2]
    assert (grouped.inputs, grouped.outputs, grouped.groups, grouped.weights) == (4, 4, 2, 200)


def test_smaller_kernel(graph: ChannelGraph) -> None:
    assert graph.layer_by_name["grouped"].kernels == (3, 5)
    assert costs(graph).macs - costs(graph, kernels={"grouped": 3}).macs == 64 * 8 * 2 * (25 - 9)
    assert costs(graph).parameters - costs(graph, kernels={"grouped": 3}).parameters == 16 * (25 - 9)


def test_skipped(graph: ChannelGraph) -> None:
    assert costs(graph).macs - costs(graph, skipped={"grouped"}).macs == 64 * 8 * 2 * 25
    assert costs(graph).parameters - costs(graph, skipped={"grouped"}).parameters == 400
    assert [layer.name for layer in layer_costs(graph, skipped={"grouped", "norm"})] == ["a", "last"]


def test_other_resolution(graph: ChannelGraph) -> None:
    larger = replace(graph, resolutions=(Resolution(size=16, positions=(256, 0, 256, 1)),))
    assert costs(larger, resolution=16).macs == 256 * 8 * 27 + 256 * 8 * 50 + 32
    with pytest.raises(SpaceError, match=r"^resolution: 12 is not one of the traced sizes: 16$"):
        costs(larger, resolution=12)
    with pytest.raises(SpaceError, match=r"traced sizes: none$"):
        costs(graph, resolution=12)


def test_attention() -> None:
    """4 heads of 3 over 5 tokens: scores and values are 5·5·3 products for each head."""
    graph = facts(
        lambda m, x: m.at(m.a(x), m.a(x), m.a(x))[0], 1, 5, 6,
        a=nn.Linear(6, 12), at=nn.MultiheadAttention(12, 4, batch_first=True),
    )  # fmt: skip
    by_name = {layer.name: layer.macs for layer in layer_costs(graph)}
    assert by_name["at.scores"] == by_name["at.values"] == 4 * 75
    assert (
        by_name["at.query"] == by_name["at.key"] == by_name["at.value"] == by_name["at.out_proj"] == 5 * 144
    )
    assert by_name["a"] == 3 * 5 * 72  # called three times
    assert costs(graph, {"a": 2}).macs == 3 * 5 * 36 + 3 * 5 * 36 + 5 * 6 * 12 + 2 * 2 * 75


def test_a_weight_of_two_names_counts_once() -> None:
    a, b = conv(8, 8), conv(8, 8)
    b.weight = a.weight
    graph = facts(lambda m, x: m.last(m.b(m.a(m.first(x)))), first=conv(3, 8), a=a, b=b, last=conv(8, 4))
    whole = (8 * 27 + 8) + 8 * 72 + 8 + 8 + (4 * 72 + 4)
    assert costs(graph).parameters == whole
    assert costs(graph, skipped={"a"}).parameters == whole - 8  # its weight is still b's
    assert costs(graph, skipped={"a", "b"}).parameters == whole - 8 * 72 - 16
