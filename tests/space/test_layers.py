from __future__ import annotations

import numpy as np
import pytest
import torchvision
from graphs import GRAPH, PYRAMID, TOWER
from residual_graph import SPACE, residual
from torch import zeros

from bnas.errors import SpaceError
from bnas.graph import at_resolutions, trace
from bnas.graph.facts import ChannelGraph
from bnas.space import (
    SearchSpace,
    SpaceRules,
    SubnetConfig,
    costs,
    derive_space,
    layer_costs,
    layers,
    layers_of,
    parameters_of,
    with_precisions,
)


def traced() -> ChannelGraph:
    """A network with groups, skipped blocks, depthwise kernels and concatenations."""
    model, inputs = torchvision.models.shufflenet_v2_x0_5(weights=None).eval(), (zeros(1, 3, 64, 64),)
    return at_resolutions(model, inputs, trace(model, inputs), (48, 64))


CASES = {
    "by hand": (GRAPH, derive_space(GRAPH, SpaceRules())),
    "residual": (residual(), SPACE),
    "precisions": (residual(), with_precisions(SPACE, residual())),
    "kernels": (TOWER, derive_space(TOWER, SpaceRules(dims=("kernel", "resolution")))),
    "levels": (PYRAMID, derive_space(PYRAMID, SpaceRules(dims=("levels", "resolution")))),
}


@pytest.mark.parametrize("name", [*CASES, "traced"])
def test_they_are_those_of_costs(name: str) -> None:
    graph = traced() if name == "traced" else CASES[name][0]
    rules = SpaceRules(dims=("resolution", "depth", "kernel", "width"))
    space = derive_space(graph, rules) if name == "traced" else CASES[name][1]
    fast, parameters, rng = layers_of(graph, space), parameters_of(graph, space), np.random.default_rng(0)
    seen = {space.largest, space.smallest, *(space.sample(rng) for _ in range(40))}
    assert len({fast(config) for config in seen}) > 1
    for config in (*seen, *seen):  # new to it, then known
        assert fast(config) == layer_costs(graph, space, config)
        assert parameters(config) == costs(graph, space, config).parameters


def test_they_stay_right_when_there_are_too_many_to_remember(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MOST", 10)
    graph, space = CASES["by hand"]
    fast, parameters, rng = layers_of(graph, space), parameters_of(graph, space), np.random.default_rng(1)
    for config in [space.sample(rng) for _ in range(30)]:
        assert fast(config) == layer_costs(graph, space, config)
        assert parameters(config) == costs(graph, space, config).parameters


@pytest.mark.parametrize("made", [layers_of, parameters_of])
def test_a_config_of_another_space_is_refused(made) -> None:
    graph, space = CASES["residual"]
    assert isinstance(space, SearchSpace)
    with pytest.raises(SpaceError, match=r"x\.width: no such choice in this space"):
        made(graph, space)(SubnetConfig({"x.width": 1}))
