from __future__ import annotations

import pytest
from graphs import GRAPH, PYRAMID, STAGE, TOWER

from bnas.errors import SpaceError
from bnas.space import Choice, SearchSpace, Shape, SpaceRules, SubnetConfig, derive_space, shape_of


def test_widths_are_units_and_the_first_blocks_stay() -> None:
    config = SubnetConfig({"s.depth": 1, "a.width": 32, "g.width": 16})
    assert shape_of(GRAPH, derive_space(GRAPH), config) == Shape(
        widths={"a": 32, "g": 4}, skipped=frozenset({"s.1"})
    )
    with pytest.raises(SpaceError, match=r"a\.width: 31 is not one of 24, 32, 40"):
        shape_of(GRAPH, derive_space(GRAPH), SubnetConfig({"s.depth": 1, "a.width": 31, "g.width": 16}))


@pytest.mark.parametrize(
    ("kept", "skipped"),
    [(7, ""), (6, "6"), (4, "246"), (3, "1356"), (2, "12456"), (1, "123456"), (0, "0123456")],
)
def test_spread_keeps_evenly_spaced_blocks(kept: int, skipped: str) -> None:
    """Of 7 blocks 4 are kept at 0, 7/4, 14/4, 21/4, rounded down: 0 1 3 5."""
    space = derive_space(STAGE, SpaceRules(dims=("depth",), depth_mode="spread"))
    shape = shape_of(STAGE, space, SubnetConfig({"b.depth": kept}))
    assert shape.skipped == {f"b.{i}" for i in skipped}


def test_free_skips_each_block_on_its_own() -> None:
    space = derive_space(STAGE, SpaceRules(dims=("depth",), depth_mode="free", depth_min=4))
    shape = shape_of(STAGE, space, SubnetConfig({"b.4.depth": 0, "b.5.depth": 1, "b.6.depth": 0}))
    assert shape.skipped == {"b.4", "b.6"}


def test_kernels_and_the_resolution() -> None:
    """The example's own size is None: nothing has to be resized."""
    rules = SpaceRules(dims=("kernel", "resolution"), tie=(("t.1", "t.2"),))
    space = derive_space(TOWER, rules)
    shape = shape_of(TOWER, space, SubnetConfig({"resolution": 32, "t.0.kernel": 5, "t.1.kernel": 3}))
    assert shape == Shape(kernels={"t.0": 5, "t.1": 3, "t.2": 3}, resolution=32)
    assert shape_of(TOWER, space, space.largest).resolution is None


def test_one_width_of_groups_with_other_units() -> None:
    space = SearchSpace(choices=(Choice(name="w", dim="width", values=(8, 32), targets=("g", "g2")),))
    graph = type(GRAPH)(
        groups=(GRAPH.groups[1], type(GRAPH.groups[1])(name="g2", units=16, channels_per_unit=2)),
        layers=(),
        blocks=(),
    )
    assert shape_of(graph, space, SubnetConfig({"w": 8})).widths == {"g": 2, "g2": 4}


def test_levels() -> None:
    space = derive_space(PYRAMID, SpaceRules(dims=("levels", "resolution")))
    assert shape_of(PYRAMID, space, SubnetConfig({"resolution": 32, "fpn.levels": 3})) == Shape(
        levels={"fpn": 3}
    )
