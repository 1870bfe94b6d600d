"""Witnesses: the costs of layers, which know nothing of canonical configs, and the outputs of extracted subnets."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import elastic_networks
import numpy as np
import pytest
import torch
from graphs import GRAPH, PYRAMID
from residual_graph import SPACE, residual
from torch import Tensor, nn

from bnas.errors import SpaceError
from bnas.graph import ChannelGraph, trace
from bnas.space import SearchSpace, SpaceRules, SubnetConfig, canonical, derive_space, layer_costs
from bnas.supernet import Supernet, extract_subnet

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Inverted(nn.Module):
    """As in MobileNet: expanded, a depthwise kernel, projected."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(width, 4 * width, 1)
        self.depthwise = nn.Conv2d(4 * width, 4 * width, 5, padding=2, groups=4 * width)
        self.project = nn.Conv2d(4 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.project(torch.relu(self.depthwise(torch.relu(self.expand(x)))))
        return y


class Outer(nn.Module):
    """A residual block around two others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(Inverted(width), Inverted(width))
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.mix(self.inner(x))
        return y


class Mobile(nn.Module):
    def __init__(self, block: Callable[[int], nn.Module] = Inverted) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.blocks = nn.Sequential(block(8), block(8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.blocks(torch.relu(self.stem(x))).mean((2, 3)))
        return y


def traced(model: nn.Module, **rules: object) -> tuple[nn.Module, ChannelGraph, SearchSpace]:
    inputs = (X,) if not hasattr(model, "layer1") else elastic_networks.IMAGES
    graph = trace(model.eval(), inputs)
    return model, graph, derive_space(graph, SpaceRules(width_multiple=4, width_min=4, **rules))  # type: ignore[arg-type]


def mobile(block: Callable[[int], nn.Module] = Inverted, **rules: object):
    torch.manual_seed(0)
    return traced(Mobile(block), **{"dims": ("depth", "kernel", "width"), **rules})


def tiny_resnet(**rules: object):
    return traced(elastic_networks.tiny_resnet(), **{"dims": ("depth", "width"), "depth_min": 0, **rules})


NETWORKS = {
    "residual": lambda: tiny_resnet(),
    "any block": lambda: tiny_resnet(depth_mode="free"),
    "spread": lambda: tiny_resnet(depth_mode="spread"),
    "mobile": lambda: mobile(depth_min=0),
    "nested": lambda: mobile(Outer, depth_min=0),
    "nested, any block": lambda: mobile(Outer, depth_mode="free"),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, ChannelGraph, SearchSpace]:
    return NETWORKS[request.param]()


def neighbours(space: SearchSpace, config: SubnetConfig) -> list[SubnetConfig]:
    """The configs that differ in one choice."""
    return [
        SubnetConfig({**config.values, choice.name: value})
        for choice in space.choices
        for value in choice.values
        if value != config[choice.name]
    ]


def test_two_configs_have_one_canonical_config_where_they_have_the_same_layers(network) -> None:
    _, graph, space = network
    same, rng, alike = canonical(graph, space), np.random.default_rng(0), 0
    for config in (space.smallest, *(space.sample(rng) for _ in range(8))):
        layers = layer_costs(graph, space, config)
        assert layer_costs(graph, space, same(config)) == layers
        for other in neighbours(space, config):
            equal = layer_costs(graph, space, other) == layers
            assert (same(other) == same(config)) == equal
            alike += equal
    assert alike > 0


def test_it_is_the_same_network(network) -> None:
    model, graph, space = network
    same, rng = canonical(graph, space), np.random.default_rng(1)
    supernet, inputs = (
        Supernet(model, graph, space),
        X if graph.input_shapes[0][1] == 3 else elastic_networks.IMAGES[0],
    )
    configs = [space.smallest, *(space.sample(rng) for _ in range(12))]
    changed = [config for config in configs if same(config) != config]
    assert changed
    for config in changed[:5]:
        with torch.no_grad():
            assert torch.equal(
                extract_subnet(supernet, config)(inputs), extract_subnet(supernet, same(config))(inputs)
            )


def test_idle_choices_are_at_their_largest_and_nothing_else_changes(network) -> None:
    _, graph, space = network
    same, rng = canonical(graph, space), np.random.default_rng(2)
    assert same(space.largest) == space.largest
    for config in [space.sample(rng) for _ in range(20)]:
        found = same(config)
        space.validate(found)
        assert same(found) == found
        assert list(found) == list(config)
        moved = [name for name in config if found[name] != config[name]]
        assert all(found[name] > config[name] for name in moved)


def test_a_small_space_has_as_many_canonical_configs_as_networks() -> None:
    graph = residual()
    every = [
        SubnetConfig(dict(zip((own.name for own in SPACE.choices), values, strict=True)))
        for values in product(*(own.values for own in SPACE.choices))
    ]
    networks = {layer_costs(graph, SPACE, config) for config in every}
    assert len({canonical(graph, SPACE)(config) for config in every}) == len(networks) == 28 < len(every)


@pytest.mark.parametrize(
    ("graph", "rules"), [(GRAPH, SpaceRules()), (PYRAMID, SpaceRules(dims=("levels", "width", "resolution")))]
)
def test_graphs_by_hand(graph: ChannelGraph, rules: SpaceRules) -> None:
    space = derive_space(graph, rules)
    same, rng = canonical(graph, space), np.random.default_rng(3)
    for config in (space.smallest, *(space.sample(rng) for _ in range(10))):
        assert layer_costs(graph, space, same(config)) == layer_costs(graph, space, config)


def test_a_config_of_another_space_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"x\.width: no such choice"):
        canonical(residual(), SPACE)(SubnetConfig({"x.width": 1}))
