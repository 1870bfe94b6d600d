from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from graphs import GRAPH, PYRAMID, STAGE, TOWER, one_group

from bnas.errors import ConfigError, SpaceError
from bnas.graph import Block, ChannelGraph, Group
from bnas.space import DIMENSIONS, Choice, SpaceRules, derive_space
from bnas.space.space import DIMS


def derived(graph: ChannelGraph, **rules: Any) -> dict[str, tuple[int, ...]]:
    return {choice.name: choice.values for choice in derive_space(graph, SpaceRules(**rules)).choices}


def widths(units: int, channels_per_unit: int = 1, **rules: Any) -> tuple[int, ...]:
    """The widths offered of a single group."""
    return derived(one_group(units, channels_per_unit), dims=("width",), **rules)["x.width"]


def test_defaults() -> None:
    """40 × .5 = 20 → 24 (halves round up), × .75 = 30 → 32; groups of 4 of 32: 16 and 24."""
    assert derive_space(GRAPH).choices == (
        Choice(name="s.depth", dim="depth", values=(0, 1, 2), targets=("s.0", "s.1")),
        Choice(name="a.width", dim="width", values=(24, 32, 40), targets=("a",)),
        Choice(name="g.width", dim="width", values=(16, 24, 32), targets=("g",)),
    )


def test_every_dimension_has_its_functions_and_the_order_is_fixed() -> None:
    assert tuple(DIMENSIONS) == DIMS
    rules = SpaceRules(dims=("width", "kernel", "depth", "resolution"), skip=("t.*",))
    assert derive_space(TOWER, rules).dims == ("resolution", "depth", "kernel", "width")


@pytest.mark.parametrize(
    ("units", "channels_per_unit", "rules", "expected"),
    [
        (64, 1, {}, (32, 48, 64)),
        (64, 1, {"width_min": 40}, (40, 48, 64)),
        (64, 1, {"width_ratios": (0.1, 0.9)}, (8, 56, 64)),
        (100, 1, {"width_multiple": 12}, (48, 72, 100)),  # 50 → 48, 75 → 72; 1.0 is the whole, not 96
        (96, 1, {"width_multiple": 1, "width_ratios": (0.34,)}, (33, 96)),
        (80, 1, {"width_step": 16}, (16, 32, 48, 64, 80)),
        (80, 1, {"width_step": 12}, (16, 32, 48, 64, 80)),  # up to the multiple of 8
        (80, 1, {"width_step": 16, "width_min": 40}, (48, 64, 80)),
        (40, 1, {"width_step": 16}, (16, 32, 40)),
        # a multiple of more than half of the channels is halved until it no longer is
        (16, 1, {}, (8, 16)),
        (12, 1, {}, (8, 12)),  # of 4: 6 → 8, 9 → 8
        (8, 1, {}, (4, 8)),  # of 4: 6 → 8
        (8, 1, {"width_multiple": 1}, (4, 6, 8)),
        (3, 1, {}, (2, 3)),  # of 1: 1.5 → 2, 2.25 → 2
        (2, 1, {}, (1, 2)),
        # whole units: heads of 32, groups of 20 and 12
        (3, 32, {}, (64, 96)),
        (4, 32, {}, (64, 96, 128)),
        (2, 20, {}, (20, 40)),  # of lcm(8, 20) = 40 there is only one: of lcm(4, 20) = 20
        (3, 12, {"width_ratios": (0.34, 0.67)}, (12, 24, 36)),
    ],
)
def test_widths(units: int, channels_per_unit: int, rules: dict[str, Any], expected: tuple[int, ...]) -> None:
    assert widths(units, channels_per_unit, **rules) == expected


@pytest.mark.parametrize(
    ("units", "channels_per_unit", "rules"),
    [(1, 1, {}), (1, 64, {}), (32, 1, {"width_min": 32}), (8, 1, {"width_ratios": (1.0,)})],
)
def test_what_has_one_width_is_no_choice(units: int, channels_per_unit: int, rules: dict[str, Any]) -> None:
    with pytest.raises(SpaceError, match="nothing is elastic"):
        widths(units, channels_per_unit, **rules)


def test_depth() -> None:
    assert derived(STAGE, dims=("depth",)) == {"b.depth": (0, 1, 2, 3, 4, 5, 6, 7)}
    assert derived(STAGE, dims=("depth",), depth_min=5) == {"b.depth": (5, 6, 7)}
    assert derived(STAGE, dims=("depth",), freeze=("b.3",)) == {"b.depth": (4, 5, 6, 7)}
    assert derived(STAGE, dims=("depth",), freeze=("A",)) == {"b.depth": (3, 4, 5, 6, 7)}
    assert "b.depth" not in derived(STAGE, freeze=("b.6",))
    assert "b.depth" not in derived(STAGE, freeze=("b.depth",))
    assert derived(STAGE, dims=("depth",), values={"b.depth": (3, 5)}) == {"b.depth": (3, 5, 7)}
    assert derived(STAGE, dims=("depth",), min={"*.depth": 6}) == {"b.depth": (6, 7)}


def test_depth_spread() -> None:
    (choice,) = derive_space(STAGE, SpaceRules(dims=("depth",), depth_mode="spread", freeze=("b.0",))).choices
    assert choice.pattern == "spread"
    assert choice.values == (0, 1, 2, 3, 4, 5, 6)
    assert choice.targets == ("b.1", "b.2", "b.3", "b.4", "b.5", "b.6")


def test_depth_free() -> None:
    found = derive_space(
        STAGE, SpaceRules(dims=("depth",), depth_mode="free", depth_min=2, freeze=("b.4", "b.5.*"))
    )
    assert found.choices == tuple(
        Choice(name=f"b.{i}.depth", dim="depth", values=(0, 1), targets=(f"b.{i}",)) for i in (2, 3, 6)
    )


def test_a_preserving_block_is_skipped_where_asked_and_ties_the_widths_around_it() -> None:
    assert derive_space(TOWER).dims == ("width",)
    found = derive_space(TOWER, SpaceRules(skip=("t.1", "t.2")))
    assert found.choices[0] == Choice(name="t.depth", dim="depth", values=(0, 1, 2), targets=("t.1", "t.2"))
    assert [(choice.name, choice.targets) for choice in found.choices[1:]] == [
        ("stem.width", ("stem",)),
        ("t.0.width", ("t.0", "t.1", "t.2")),
        ("t.3.width", ("t.3",)),
    ]
    # freezing one of the three freezes all; so does a group of them that is not free
    assert "t.0.width" not in derived(TOWER, skip=("t.1", "t.2"), freeze=("t.2.width",))
    fixed = replace(
        TOWER, groups=tuple(replace(g, why=("is odd",)) if g.name == "t.1" else g for g in TOWER.groups)
    )
    assert "t.0.width" not in derived(fixed, skip=("t.1", "t.2"))
    # not skipped: not tied
    assert "t.1.width" in derived(TOWER, skip=("t.1", "t.2"), dims=("width",))
    assert "t.1.width" in derived(TOWER, skip=("t.1", "t.2"), freeze=("t.1.depth", "t.2.depth"))


def test_of_nested_preserving_blocks_the_outer_is_skipped() -> None:
    inner = Block(name="t.1.conv", stage="t.1", kind="preserving", type="Conv2d", ties=(("t.0", "t.1"),))
    graph = replace(TOWER, blocks=(TOWER.blocks[0], inner, *TOWER.blocks[1:]))
    assert derived(graph, dims=("depth",), skip=("*",)) == {"t.depth": (0, 1, 2, 3, 4)}
    assert derived(graph, dims=("depth",), skip=("*.conv",)) == {"t.1.depth": (0, 1)}
    assert derived(graph, dims=("depth",), skip=("*",), freeze=("t.1",)) == {
        "t.depth": (0, 1, 2, 3),
        "t.1.depth": (0, 1),
    }


def test_both_kinds_of_stage_may_have_one_name() -> None:
    blocks = (*STAGE.blocks, replace(STAGE.blocks[0], name="b.7", kind="preserving"))
    found = derived(replace(STAGE, blocks=blocks), dims=("depth",), skip=("b.7",))
    assert found == {"b.depth": (0, 1, 2, 3, 4, 5, 6, 7), "b.preserving.depth": (0, 1)}


def test_kernels() -> None:
    assert derived(TOWER, dims=("kernel",)) == {
        "t.0.kernel": (3, 5, 7),
        "t.1.kernel": (3, 5),
        "t.2.kernel": (3, 5),
    }
    assert derived(TOWER, dims=("kernel",), kernel_values=(3,), freeze=("t.2",)) == {
        "t.0.kernel": (3, 7),
        "t.1.kernel": (3, 5),
    }
    assert derived(TOWER, dims=("kernel",), min={"*.kernel": 5}) == {"t.0.kernel": (5, 7)}
    assert derived(TOWER, dims=("kernel",), tie=(("t.1", "t.2"),)) == {
        "t.0.kernel": (3, 5, 7),
        "t.1.kernel": (3, 5),
    }
    with pytest.raises(
        ConfigError, match=r"space\.tie\[0\]: t\.0\.kernel \(3 5 7\) and t\.1\.kernel \(3 5\) cannot be one"
    ):
        derived(TOWER, dims=("kernel",), tie=(("Conv2d",),))


def test_resolutions() -> None:
    assert derived(TOWER, dims=("resolution",)) == {"resolution": (24, 32, 48)}
    assert derived(TOWER, dims=("resolution",), resolutions=(32,)) == {"resolution": (32, 48)}
    assert derived(TOWER, dims=("resolution",), values={"resolution": (24,)}) == {"resolution": (24, 48)}
    with pytest.raises(ConfigError, match=r"space\.resolutions: 40 is not possible; possible: 24, 32, 48"):
        derived(TOWER, dims=("resolution",), resolutions=(40,))
    with pytest.raises(ConfigError, match=r"space\.resolutions: no input size was traced; give some"):
        derived(GRAPH, dims=("resolution", "width"))


def test_freeze_goes_by_layer_group_block_choice_and_class() -> None:
    assert list(derived(GRAPH, freeze=("a", "s.1"))) == ["g.width"]
    assert list(derived(GRAPH, freeze=("s.1.d",))) == ["s.depth", "a.width"]  # the layer writes group g
    assert list(derived(GRAPH, freeze=("Conv2d",))) == ["s.depth"]
    assert list(derived(GRAPH, freeze=("Residual", "g.width"))) == ["a.width"]
    with pytest.raises(SpaceError, match=r"^nothing is elastic in this model: .*is an output of the model"):
        derived(GRAPH, freeze=("*",))


def test_values_and_least_values() -> None:
    """The last pattern that matches holds; explicit values need no multiple of 8."""
    found = derived(GRAPH, values={"Conv2d": (20, 28), "a": (10, 30)}, min={"*": 24, "a.width": 11})
    assert found == {"s.depth": (0, 1, 2), "a.width": (30, 40), "g.width": (28, 32)}
    assert derived(GRAPH, min={"g": 17})["g.width"] == (24, 32)
    assert "g.width" not in derived(GRAPH, values={"g": ()})
    with pytest.raises(
        ConfigError, match=r"space\.values\.g: g\.width cannot be 18; possible: 4, 8, 12, 16, 20"
    ):
        derived(GRAPH, values={"g": (18,)})
    with pytest.raises(ConfigError, match=r"space\.values\.a: a\.width cannot be 48; possible: 1, 2, 3 … 40"):
        derived(GRAPH, values={"a": (48,)})


def test_ties() -> None:
    (choice, *others) = derive_space(
        TOWER, SpaceRules(tie=(("stem", "t.3"), ("t.[12]",), ("t.2", "t.3")))
    ).choices
    assert choice == Choice(
        name="stem.width", dim="width", values=(16, 24, 32), targets=("stem", "t.1", "t.2", "t.3")
    )
    assert [choice.name for choice in others] == ["t.0.width"]
    with pytest.raises(
        ConfigError,
        match=r"space\.tie\[0\]: a\.width \(40 channels\) and g\.width \(32 channels\) cannot be one choice",
    ):
        derive_space(GRAPH, SpaceRules(tie=(("a", "g"),)))


def test_tied_groups_of_other_units_take_whole_units_of_both() -> None:
    """24 channels, of units of 3 and of 2: multiples of 6."""
    graph = ChannelGraph(
        groups=(
            Group(name="x", units=8, channels_per_unit=3),
            Group(name="y", units=12, channels_per_unit=2),
        ),
        layers=(),
        blocks=(),
    )
    assert derived(graph, tie=(("x", "y"),), width_multiple=1) == {"x.width": (12, 18, 24)}


def test_levels_of_pyramids() -> None:
    assert derived(PYRAMID, dims=("levels",)) == {"fpn.levels": (2, 3, 4)}
    assert derived(PYRAMID, dims=("levels",), values={"*.levels": (2,)}) == {"fpn.levels": (2, 4)}
    assert derived(PYRAMID, dims=("levels",), min={"fpn.levels": 3}) == {"fpn.levels": (3, 4)}
    for pattern in ("fpn", "fpn.*", "FeaturePyramidNetwork"):
        with pytest.raises(SpaceError, match=r"is frozen by space\.freeze; has a forward of its own"):
            derived(PYRAMID, dims=("levels",), freeze=(pattern,))
    with pytest.raises(ConfigError, match=r"values\.fpn\.levels: fpn\.levels cannot be 1; possible: 2, 3, 4"):
        derived(PYRAMID, dims=("levels",), values={"fpn.levels": (1,)})
    with pytest.raises(
        ConfigError, match=r"other\.levels cannot be chosen, because it has a forward of its own"
    ):
        derived(PYRAMID, dims=("levels",), values={"other.levels": (1,)})


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"freeze": ("s.1.f",)}, r"space\.freeze\[0\]: no layer, block, choice or class is called 's\.1\.f'; did you mean 's\.1\.d'\?"),
        ({"freeze": ("a", "s")}, r"space\.freeze\[1\]: .* 's'; did you mean 's\.\*'\?"),
        ({"freeze": ("Convv2d",)}, r"did you mean 'Conv2d'\?"),
        ({"skip": ("s.0",)}, r"space\.skip\[0\]: no block that only keeps its input's shape is called 's\.0'; there is none"),
        ({"values": {"b": (8,)}}, r"space\.values\.b: no width choice has such a name; there are: Conv2d, Linear, a"),
        ({"values": {"a.kernel": (3,)}}, r"space\.values\.a\.kernel: no kernel choice has such a name; there is none"),
        ({"values": {"out": (8,)}}, r"space\.values\.out: out\.width cannot be chosen, because it is an output"),
        ({"min": {"s.dept": 1}}, r"space\.min\.s\.dept: no width choice has such a name"),
        ({"tie": (("a", "zzz"),)}, r"space\.tie\[0\]: 'zzz' matches no width or kernel"),
        ({"tie": (("a", "out"),)}, r"space\.tie\[0\]: 'out': out\.width cannot be chosen, because it is an output"),
        ({"values": {"a": (8,)}, "freeze": ("a",)}, r"a\.width cannot be chosen, because it is frozen by space\.freeze"),
    ],
)  # fmt: skip
def test_a_rule_that_changes_nothing_is_refused(rules: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        derived(GRAPH, **rules)
