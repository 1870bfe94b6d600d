from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from graphs import GRAPH, PYRAMID, TOWER

from bnas.errors import SpaceError
from bnas.graph import at_resolutions, trace
from bnas.graph.facts import ChannelGraph
from bnas.space import SearchSpace, SpaceRules, SubnetConfig, costs, derive_space, macs, macs_of


def traced() -> ChannelGraph:
    """A network with groups, skipped blocks, depthwise kernels and concatenations."""
    model, inputs = torchvision.models.shufflenet_v2_x0_5(weights=None).eval(), (torch.zeros(1, 3, 64, 64),)
    return at_resolutions(model, inputs, trace(model, inputs), (48, 64))


@pytest.mark.parametrize(
    ("graph", "rules"),
    [
        (GRAPH, SpaceRules()),
        (TOWER, SpaceRules(dims=("kernel", "resolution"))),
        (PYRAMID, SpaceRules(dims=("levels", "resolution"))),
        (traced(), SpaceRules(dims=("resolution", "depth", "kernel", "width"))),
    ],
    ids=["by hand", "kernels", "levels", "traced"],
)
def test_they_are_those_of_costs(graph: ChannelGraph, rules: SpaceRules) -> None:
    space = derive_space(graph, rules)
    fast, rng = macs_of(graph, space), np.random.default_rng(0)
    seen = {space.largest, space.smallest, *(space.sample(rng) for _ in range(60))}
    assert len({costs(graph, space, config).macs for config in seen}) > 1
    for config in (*seen, *seen):  # new to it, then known
        assert fast(config) == costs(graph, space, config).macs


def test_they_stay_right_when_there_are_too_many_to_remember(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(macs, "MOST", 10)
    space: SearchSpace = derive_space(GRAPH)
    fast, rng = macs_of(GRAPH, space), np.random.default_rng(1)
    for config in [space.sample(rng) for _ in range(30)]:
        assert fast(config) == costs(GRAPH, space, config).macs


def test_a_config_of_another_space_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"x\.width: no such choice in this space"):
        macs_of(GRAPH, derive_space(GRAPH))(SubnetConfig({"x.width": 1}))
