from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnas.errors import ConfigError, SpaceError
from bnas.graph import Block, ChannelGraph, Group, Layer, Segment
from bnas.space import (
    Choice,
    SearchSpace,
    SpaceRules,
    SubnetConfig,
    check_fits,
    costs,
    derive_space,
    layer_costs,
    shape_of,
)


def label(group: str | None, units: int, repeat: int = 1) -> tuple[Segment, ...]:
    return (Segment(group=group, units=units, repeat=repeat),)


GRAPH = ChannelGraph(
    groups=(
        Group(name="a", units=40),
        Group(name="g", units=8, channels_per_unit=4),
        Group(name="out", units=10, why=("is an output of the model",)),
    ),
    layers=(
        Layer(name="a", kind="conv2d", reads=label(None, 3), writes=label("a", 40), positions=16, kernel=(3, 3)),
        Layer(name="s.0.g", kind="conv2d", reads=label("a", 40), writes=label("g", 8, 4), positions=16, kernel=(1, 1)),
        Layer(
            name="s.1.d", kind="conv2d", reads=label("g", 8, 4), writes=label("g", 8, 4), positions=4,
            kernel=(3, 3), groups=8, bias=True,
        ),
        Layer(name="out", kind="linear", reads=label("g", 8, 4), writes=label("out", 10), positions=1, bias=True),
    ),
    blocks=(Block(name="s.0", stage="s"), Block(name="s.1", stage="s")),
)  # fmt: skip
RULES = SpaceRules(width_ratios=(0.5, 0.75, 1.0), width_multiple=8, width_min=16)


@pytest.fixture
def space() -> SearchSpace:
    return derive_space(GRAPH, RULES)


def test_derived_choices(space: SearchSpace) -> None:
    """40 × .5 = 20 → 24 (halves round up), × .75 = 30 → 32; groups of 4 of 32: 16 and 24."""
    assert space.choices == (
        Choice(name="s.depth", dim="depth", values=(0, 1, 2), targets=("s.0", "s.1")),
        Choice(name="a.width", dim="width", values=(24, 32, 40), targets=("a",)),
        Choice(name="g.width", dim="width", values=(16, 24, 32), targets=("g",)),
    )
    assert space.size == 27
    assert space.largest == SubnetConfig({"s.depth": 2, "a.width": 40, "g.width": 32})


def test_rules() -> None:
    assert [c.name for c in derive_space(GRAPH, SpaceRules(freeze=("a", "s.1"))).choices] == ["g.width"]
    depth = derive_space(GRAPH, SpaceRules(freeze=("s.0",), dims=("depth",))).choices
    assert depth[0].values == (1, 2)
    assert derive_space(GRAPH, SpaceRules(depth_min=1)).choices[0].values == (1, 2)
    with pytest.raises(SpaceError, match="nothing is elastic in this model: is an output of the model"):
        derive_space(GRAPH, SpaceRules(freeze=("*",)))
    with pytest.raises(
        ConfigError, match=r"space\.dims: no elastic dimension 'widht'; did you mean 'width'\?"
    ):
        SpaceRules(dims=("widht",))
    with pytest.raises(ConfigError, match=r"space\.width_ratios: .* got 1\.5"):
        SpaceRules(width_ratios=(1.5,))


def test_shape_of(space: SearchSpace) -> None:
    shape = shape_of(GRAPH, space, SubnetConfig({"s.depth": 1, "a.width": 32, "g.width": 16}))
    assert shape.widths == {"a": 32, "g": 4}
    assert shape.skipped == {"s.1"}


def test_costs_by_hand(space: SearchSpace) -> None:
    config = SubnetConfig({"s.depth": 2, "a.width": 32, "g.width": 16})
    found = {cost.name: (cost.macs, cost.parameters) for cost in layer_costs(GRAPH, space, config)}
    assert found == {
        "a": (3 * 32 * 9 * 16, 3 * 32 * 9),
        "s.0.g": (32 * 16 * 16, 32 * 16),
        "s.1.d": (16 * 4 * 9 * 4, 16 * 4 * 9 + 16),
        "out": (160, 170),
    }
    assert costs(GRAPH, space, config).macs == sum(macs for macs, _ in found.values())
    without = costs(GRAPH, space, SubnetConfig({"s.depth": 0, "a.width": 32, "g.width": 16}))
    assert without.macs == 3 * 32 * 9 * 16 + 160


def test_errors_name_choice_allowed_and_got(space: SearchSpace) -> None:
    with pytest.raises(SpaceError, match=r"a\.width: 200 is not one of 24, 32, 40"):
        space.validate(SubnetConfig({"s.depth": 2, "a.width": 200, "g.width": 16}))
    with pytest.raises(
        SpaceError, match=r"a\.widht: no such choice in this space; did you mean 'a\.width'\?"
    ):
        space.validate(SubnetConfig({"a.widht": 32}))
    with pytest.raises(SpaceError, match=r"g\.width: the subnet gives no value \(1 of 3 missing\)"):
        space.validate(SubnetConfig({"s.depth": 2, "a.width": 32}))
    with pytest.raises(SpaceError, match="2 indices given for 3 choices"):
        space.decode((0, 1))
    with pytest.raises(SpaceError, match=r"s\.depth: index -1 is outside 0 … 2"):
        space.decode((-1, 0, 0))
    with pytest.raises(SpaceError, match="a: this choice occurs more than once"):
        SearchSpace(choices=(Choice(name="a", dim="width", values=(1,)),) * 2)
    with pytest.raises(SpaceError, match="a: values must ascend"):
        Choice(name="a", dim="width", values=(2, 1))


def test_a_space_of_another_model_is_refused_with_all_its_problems() -> None:
    edited = SearchSpace(
        choices=(
            Choice(name="s.depth", dim="depth", values=(0, 1), targets=("s.0", "s.1")),
            Choice(name="b.width", dim="width", values=(8, 40), targets=("b",)),
            Choice(name="g.width", dim="width", values=(6, 32), targets=("g",)),
            Choice(name="out.width", dim="width", values=(5, 10), targets=("out",)),
            Choice(name="a.width", dim="width", values=(8, 48), targets=("a",)),
            Choice(name="a.kernel", dim="kernle", values=(3, 5), targets=("a",)),
        )
    )
    with pytest.raises(SpaceError) as error:
        check_fits(GRAPH, edited)
    text = str(error.value)
    for problem in (
        "s.depth: the largest depth must be 2",
        "b.width: no group 'b'",
        "g.width: 6 is not a positive multiple of 4",
        "out.width: frozen, because it is an output of the model",
        "a.width: the largest width must be 40, got 48",
        "a.kernel: no elastic dimension 'kernle'",
    ):
        assert problem in text


@given(st.integers(0, 2**32))
def test_sampling_is_valid_and_encodes(seed: int) -> None:
    space = derive_space(GRAPH, RULES)
    config = space.sample(np.random.default_rng(seed))
    space.validate(config)
    assert space.decode(space.encode(config)) == config
    assert config == space.sample(np.random.default_rng(seed))


def test_open_dims(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    some = [space.sample(rng, open={"depth": 2}) for _ in range(50)]
    assert {config["s.depth"] for config in some} == {1, 2}
    assert {config["a.width"] for config in some} == {40}
    every = [space.sample(rng, open={"depth": 0, "width": 1}) for _ in range(50)]
    assert {config["s.depth"] for config in every} == {0, 1, 2}
    assert {config["a.width"] for config in every} == {40}
    with pytest.raises(
        SpaceError, match="widht: no such elastic dimension in this space; did you mean 'width'"
    ):
        space.sample(rng, open={"widht": 1})


def test_uniform_over_all_configs(space: SearchSpace) -> None:
    """27 configs, 2700 draws: each about 100 times (5 standard deviations: 50)."""
    rng = np.random.default_rng(0)
    drawn = [space.encode(space.sample(rng)) for _ in range(2700)]
    counts = [drawn.count(indices) for indices in set(drawn)]
    assert len(counts) == 27
    assert all(50 < count < 150 for count in counts)


def test_config_is_a_value() -> None:
    a, b = SubnetConfig({"x": 1, "y": 2}), SubnetConfig({"y": 2, "x": 1})
    assert a == b
    assert hash(a) == hash(b)
    assert a.digest == b.digest != SubnetConfig({"x": 2, "y": 2}).digest
    assert str(a) == "x  1\ny  2"
