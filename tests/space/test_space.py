from __future__ import annotations

import numpy as np
import pytest
from graphs import GRAPH, PYRAMID, TOWER
from hypothesis import given
from hypothesis import strategies as st

from bnas.errors import SpaceError
from bnas.plain import from_plain, to_plain
from bnas.space import (
    Choice,
    SearchSpace,
    SpaceRules,
    SubnetConfig,
    costs,
    derive_space,
    layer_costs,
)

SPACE = SearchSpace(
    choices=(
        Choice(name="s.depth", dim="depth", values=(0, 1, 2), targets=("s.0", "s.1")),
        Choice(name="a.width", dim="width", values=(24, 32, 40), targets=("a",)),
        Choice(name="g.width", dim="width", values=(16, 24, 32), targets=("g",)),
    )
)


@pytest.fixture
def space() -> SearchSpace:
    return SPACE


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


def test_costs_follow_kernel_and_resolution() -> None:
    space = derive_space(TOWER, SpaceRules(dims=("kernel", "resolution")))
    small = SubnetConfig({"resolution": 24, "t.0.kernel": 3, "t.1.kernel": 5, "t.2.kernel": 3})
    found = {cost.name: cost.macs for cost in layer_costs(TOWER, space, small)}
    assert found["t.0"] == 32 * 32 * 9 * 24 * 24
    assert found["t.1"] == 32 * 32 * 25 * 24 * 24
    assert costs(TOWER, space, small).parameters == 32 * (3 * 9 + 32 * (9 + 25 + 9 + 9) + 4)
    whole = costs(TOWER, space, space.largest)
    assert whole.macs == 48 * 48 * 32 * (3 * 9 + 32 * (49 + 25 + 25 + 9) + 4)


def test_errors_name_choice_allowed_and_got(space: SearchSpace) -> None:
    with pytest.raises(SpaceError, match=r"a\.width: 200 is not one of 24, 32, 40"):
        space.validate(SubnetConfig({"s.depth": 2, "a.width": 200, "g.width": 16}))
    with pytest.raises(
        SpaceError, match=r"a\.widht: no such choice in this space; did you mean 'a\.width'\?"
    ):
        space.validate(SubnetConfig({"a.widht": 32}))
    with pytest.raises(SpaceError, match=r"b\.width: no such choice"):
        space.validate(SubnetConfig({"s.depth": 2, "a.width": 32, "b.width": 16}))
    with pytest.raises(SpaceError, match=r"g\.width: the subnet gives no value \(1 of 3 missing\)"):
        space.validate(SubnetConfig({"s.depth": 2, "a.width": 32}))
    with pytest.raises(SpaceError, match=r"a\.width: \[32\] is not one of 24, 32, 40"):
        space.validate(SubnetConfig({"s.depth": 2, "a.width": [32], "g.width": 16}))  # type: ignore[dict-item]
    with pytest.raises(SpaceError, match="2 indices given for 3 choices"):
        space.decode((0, 1))
    with pytest.raises(SpaceError, match=r"s\.depth: index -1 is outside 0 … 2"):
        space.decode((-1, 0, 0))


def test_a_space_is_refused_with_all_that_is_wrong_in_itself() -> None:
    with pytest.raises(SpaceError) as error:
        SearchSpace(
            choices=(
                *(Choice(name="a", dim="width", values=(1,)),) * 2,
                Choice(name="b", dim="width", values=(2, 1)),
                Choice(name="c", dim="width", values=()),
            )
        )
    assert str(error.value) == (
        "b: values must ascend and not be empty, got [2, 1]; "
        "c: values must ascend and not be empty, got []; a: this choice occurs more than once"
    )


@given(st.integers(0, 2**32))
def test_sampling_is_valid_and_encodes(seed: int) -> None:
    config = SPACE.sample(np.random.default_rng(seed))
    SPACE.validate(config)
    assert SPACE.decode(SPACE.encode(config)) == config
    assert config == SPACE.sample(np.random.default_rng(seed))


def test_open_dims(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    some = [space.sample(rng, open={"depth": 2}) for _ in range(50)]
    assert {config["s.depth"] for config in some} == {1, 2}
    assert {config["a.width"] for config in some} == {40}
    every = [space.sample(rng, open={"depth": 0, "width": 1}) for _ in range(50)]
    assert {config["s.depth"] for config in every} == {0, 1, 2}
    assert {config["a.width"] for config in every} == {40}
    more = [space.sample(rng, open={"width": 9}) for _ in range(50)]
    assert {config["a.width"] for config in more} == {24, 32, 40}
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


def test_the_pattern_is_written_only_where_it_says_something() -> None:
    first = Choice(name="s.depth", dim="depth", values=(0, 1), targets=("s.0",))
    spread = Choice(name="s.depth", dim="depth", values=(0, 1), targets=("s.0",), pattern="spread")
    assert list(to_plain(first)) == ["name", "dim", "values", "targets"]
    assert to_plain(spread)["pattern"] == "spread"
    for choice in (first, spread):
        assert from_plain(Choice, to_plain(choice)) == choice


def test_costs_with_fewer_levels() -> None:
    """The head's 8·4·9 weights at 16 + 4 positions of 32² images, and at 4 + 1 of 16² ones."""
    space = derive_space(PYRAMID, SpaceRules(dims=("levels", "resolution")))
    two = {"fpn.levels": 2}
    assert costs(PYRAMID, space, SubnetConfig({**two, "resolution": 32})).macs == 288 * 20
    assert costs(PYRAMID, space, SubnetConfig({**two, "resolution": 16})).macs == 288 * 5
    (head,) = layer_costs(PYRAMID, space, SubnetConfig({**two, "resolution": 32}))
    assert (head.name, head.positions) == ("head", 20)
