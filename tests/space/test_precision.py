from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from graphs import GRAPH, PYRAMID, STAGE, TOWER, conv, label
from torch import Tensor, nn

from bnas.errors import ConfigError, SpaceError
from bnas.graph import ChannelGraph, Weight, trace
from bnas.models import ModelConfig, load_model
from bnas.space import (
    PRECISION,
    PRECISIONS,
    SearchSpace,
    SpaceRules,
    SubnetConfig,
    architecture,
    costs,
    derive_space,
    has_precisions,
    layer_costs,
    macs_of,
    precisions_of,
    space_table,
    subnet_table,
    uniform,
    with_precisions,
)
from bnas.space.precision import parts_of
from bnas.supernet import Supernet, extract_subnet

SPACE = derive_space(GRAPH)
JOINT = with_precisions(SPACE, GRAPH)


def test_each_block_gets_a_choice_and_so_does_the_rest() -> None:
    further = JOINT.choices[len(SPACE.choices) :]
    assert JOINT.choices[: len(SPACE.choices)] == SPACE.choices
    assert [choice.name for choice in further] == ["precision", "s.0.precision", "s.1.precision"]
    assert {(choice.dim, choice.values) for choice in further} == {(PRECISION, (0, 1, 2))}
    assert JOINT.size == SPACE.size * 3**3
    assert (has_precisions(JOINT), has_precisions(SPACE)) == (True, False)
    assert "what has no other" in space_table(GRAPH, JOINT)


def test_what_stands_beside_blocks_is_a_part_of_its_own() -> None:
    """The first block of a later stage changes the shape: it is no block that could be skipped."""
    model, inputs = load_model(
        ModelConfig(options={"widths": (8, 16), "depths": (2, 2)}), num_classes=4, shape=(1, 16, 16)
    )
    graph = trace(model, inputs)
    assert parts_of(graph, derive_space(graph)) == ("", "layer1.0", "layer1.1", "layer2.0", "layer2.1")


def test_of_a_network_without_blocks_each_layer_is_a_part() -> None:
    assert parts_of(TOWER, derive_space(TOWER)) == tuple(layer.name for layer in TOWER.layers)
    skipping = derive_space(TOWER, SpaceRules(skip=("t.1", "t.2")))
    assert parts_of(TOWER, skipping) == ("", "t.0", "t.1", "t.2", "t.3")  # those beside them too


def test_what_is_no_module_belongs_to_the_one_that_runs_it() -> None:
    product = replace(conv("s.1.scores", label("g", 8, 4), label("g", 8, 4), 4), kind="matmul")
    graph = replace(GRAPH, layers=(*GRAPH.layers, product), blocks=GRAPH.blocks[:1])
    assert parts_of(graph, SPACE) == ("", "s.0", "s.1")
    graph = replace(GRAPH, layers=(*GRAPH.layers, replace(product, name="other.scores")), blocks=())
    assert parts_of(graph, SearchSpace(choices=SPACE.choices[-1:])) == ("a", "s.0.g", "s.1.d", "out", "other")


def test_the_largest_is_the_original_network_in_fp32() -> None:
    assert architecture(JOINT.largest) == SPACE.largest
    assert set(precisions_of(GRAPH, JOINT, JOINT.largest).values()) == {"fp32"}
    assert architecture(JOINT.smallest) == SPACE.smallest
    assert set(precisions_of(GRAPH, JOINT, uniform(JOINT, SPACE.largest, "int8_tensor")).values()) == {
        "int8_tensor"
    }


def test_precisions_change_no_weight() -> None:
    rng, fast = np.random.default_rng(0), macs_of(GRAPH, JOINT)
    for _ in range(30):
        config = JOINT.sample(rng)
        own = architecture(config)
        SPACE.validate(own)
        assert costs(GRAPH, JOINT, config) == costs(GRAPH, SPACE, own)
        assert fast(config) == costs(GRAPH, SPACE, own).macs
        assert architecture(own) is own
        assert precisions_of(GRAPH, SPACE, own) == {}


def test_layers_know_their_precision() -> None:
    config = SubnetConfig({**JOINT.largest.values, "precision": 1, "s.1.precision": 0})
    found = {layer.name: layer.precision for layer in layer_costs(GRAPH, JOINT, config)}
    assert found == {"a": "int8_channel", "s.0.g": "fp32", "s.1.d": "int8_tensor", "out": "int8_channel"}
    own = layer_costs(GRAPH, SPACE, architecture(config))
    assert {layer.precision for layer in own} == {""}
    assert tuple(replace(layer, precision="") for layer in layer_costs(GRAPH, JOINT, config)) == own


def test_a_block_that_is_left_out_has_none() -> None:
    config = SubnetConfig({**JOINT.largest.values, "s.depth": 1, "s.1.precision": 0})
    assert precisions_of(GRAPH, JOINT, config) == {"": "fp32", "s.0": "fp32"}
    assert "int8_tensor" in subnet_table(GRAPH, JOINT, config)


def test_behind_a_block_that_leaves_its_list_all_move_up() -> None:
    layers = tuple(conv(f"b.{i}.c", label("c", 64), label("c", 64), 1) for i in range(7))
    weights = tuple(Weight(name=f"{layer.name}.weight", axes=(label("c", 64),)) for layer in layers)
    blocks = tuple(replace(block, listed=True) for block in STAGE.blocks)
    graph: ChannelGraph = replace(STAGE, layers=(*STAGE.layers, *layers), weights=weights, blocks=blocks)
    joint = with_precisions(derive_space(graph, SpaceRules(dims=("depth",), depth_mode="spread")), graph)
    marked = {f"b.{i}.precision": 0 for i in (2, 5)}
    config = SubnetConfig({**joint.largest.values, **marked, "b.depth": 4})  # 0, 1, 3 and 5 stay
    assert precisions_of(graph, joint, config) == {
        "": "fp32", "b.0": "fp32", "b.1": "fp32", "b.2": "fp32", "b.3": "int8_tensor",
    }  # fmt: skip
    plain = replace(graph, blocks=STAGE.blocks)
    assert precisions_of(plain, joint, config) == {
        "": "fp32", "b.0": "fp32", "b.1": "fp32", "b.3": "fp32", "b.5": "int8_tensor",
    }  # fmt: skip


class Scaled(nn.Module):
    """A residual block that takes more than its input, so that it leaves its list when it is skipped."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return x + self.linear(x) * scale


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(4, 8)
        self.blocks = nn.ModuleList(Scaled() for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = block(x, x.mean())
        return x


def test_paths_are_those_of_the_extracted_module() -> None:
    """Each block that is there is told from the others by its weights."""
    model, inputs = Listed().eval(), (torch.randn(2, 4),)
    graph = trace(model, inputs)
    space = derive_space(graph, SpaceRules(dims=("depth",), depth_mode="spread"))
    joint, supernet = with_precisions(space, graph), Supernet(model, graph, space)
    rng = np.random.default_rng(0)
    depths = set()
    for config in [joint.sample(rng) for _ in range(20)]:
        subnet = extract_subnet(supernet, architecture(config))
        told = dict(precisions_of(graph, joint, config))
        assert told.pop("") == PRECISIONS[config["precision"]]
        for path, precision in told.items():
            weight = subnet.get_submodule(path).linear.weight
            (before,) = (i for i, own in enumerate(model.blocks) if torch.equal(own.linear.weight, weight))
            assert precision == PRECISIONS[config[f"blocks.{before}.precision"]]
        assert len(told) == len(subnet.blocks) == config["blocks.depth"]
        depths.add(len(told))
    assert depths == {1, 2, 3, 4, 5}


def test_behind_a_level_that_leaves_its_list_all_move_up() -> None:
    weights = tuple(Weight(name=f"{layer.name}.weight", axes=()) for layer in PYRAMID.layers)
    graph = replace(PYRAMID, weights=weights)
    joint = with_precisions(derive_space(graph, SpaceRules(dims=("levels",))), graph)
    config = SubnetConfig({**joint.largest.values, "fpn.layer_blocks.1.precision": 1})
    assert set(precisions_of(graph, joint, config)) == {"fpn.layer_blocks.0", "fpn.layer_blocks.1", "head"}
    config = SubnetConfig({**config.values, "fpn.levels": 3})
    assert precisions_of(graph, joint, config) == {"fpn.layer_blocks.0": "int8_channel", "head": "fp32"}


def test_only_some_precisions() -> None:
    joint = with_precisions(SPACE, GRAPH, ("fp32", "int8_channel"))
    assert joint.choices[-1].values == (1, 2)
    assert uniform(joint, joint.smallest, "fp32")["precision"] == 2
    with pytest.raises(SpaceError, match="0 is not one of 1, 2"):
        uniform(joint, joint.smallest, "int8_tensor")


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ConfigError, match="no precision 'fp23'; did you mean 'fp32'"):
        with_precisions(SPACE, GRAPH, ("int8_channel", "fp23"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="two or more to choose from are needed, got fp32"):
        with_precisions(SPACE, GRAPH, ("fp32",))
    with pytest.raises(SpaceError, match="has choices of precisions already"):
        with_precisions(JOINT, GRAPH)
    assert PRECISIONS == ("int8_tensor", "int8_channel", "fp32")
