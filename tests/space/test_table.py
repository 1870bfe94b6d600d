from __future__ import annotations

import pytest
from graphs import GRAPH, PYRAMID, STAGE, TOWER

from bnas.errors import SpaceError
from bnas.space import SpaceRules, SubnetConfig, derive_space, space_table, subnet_diff, subnet_table

SPACE = derive_space(GRAPH)
SMALL = SubnetConfig({"s.depth": 1, "a.width": 32, "g.width": 16})


def test_space_table() -> None:
    """Whole: (3·40·9 + 40·32)·16 + 32·4·9·4 + 320 = 42688 MACs; smallest: 3·24·9·16 + 160 = 10528, with 24·27 + 170 parameters."""
    assert space_table(GRAPH, SPACE) == (
        "choice   dim    values    about\n"
        "s.depth  depth  0 1 2     s.0 s.1\n"
        "a.width  width  24 32 40  a\n"
        "g.width  width  16 24 32  g\n"
        "\n"
        "3 choices, 10^1.4 subnets\n"
        "           MMACs  M parameters\n"
        "largest   0.0427       0.00387\n"
        "smallest  0.0105      0.000818"
    )


def test_long_rows_are_cut() -> None:
    text = space_table(
        STAGE, derive_space(STAGE, SpaceRules(depth_mode="spread", width_step=4, width_multiple=4))
    )
    assert "b.depth  depth, spread  0 1 2 3 4 5 6 7   b.0 b.1 b.2 … (4 more)\n" in text
    assert "c.width  width          4 8 12 … 64 (16)  c\n" in text
    assert "resolution  24 32 48  the input images" in space_table(
        TOWER, derive_space(TOWER, SpaceRules(dims=("resolution",)))
    )


def test_subnet_table() -> None:
    """32·(27 + 16)·16 + 160 = 22176 of 42688 MACs; 32·(27 + 16) + 170 = 1546 of 3874 parameters."""
    assert subnet_table(GRAPH, SPACE, SMALL) == (
        "choice   value  of\n"
        "s.depth  1      2   without s.1\n"
        "a.width  32     40\n"
        "g.width  16     32\n"
        "\n"
        "           MMACs          M parameters\n"
        "subnet    0.0222  51.9 %       0.00155  39.9 %\n"
        "original  0.0427               0.00387"
    )


def test_what_is_without_effect_is_marked() -> None:
    space = derive_space(TOWER, SpaceRules(dims=("depth", "kernel"), skip=("t.1",)))
    text = subnet_table(
        TOWER, space, SubnetConfig({"t.depth": 0, "t.0.kernel": 3, "t.1.kernel": 3, "t.2.kernel": 3})
    )
    assert "t.1.kernel  3      5   in a block that is left out\n" in text
    assert "t.2.kernel  3      5\n" in text


def test_subnet_diff() -> None:
    """24·(27 + 16)·16 + 160 = 16672 of 22176 MACs; 24·(27 + 16) + 170 = 1202 of 1546 parameters."""
    other = SubnetConfig({"s.depth": 1, "a.width": 24, "g.width": 16})
    assert subnet_diff(GRAPH, SPACE, SMALL, other, ("A", "B")) == (
        "choice   A   B   of\n"
        "a.width  32  24  40\n"
        "\n"
        "1 of 3 choices differ\n"
        "    MMACs          M parameters\n"
        "A  0.0222               0.00155\n"
        "B  0.0167  75.2 %        0.0012  77.7 %"
    )
    assert subnet_diff(GRAPH, SPACE, SMALL, SMALL).startswith("the same subnet\n")
    with pytest.raises(SpaceError, match=r"s\.depth: the subnet gives no value"):
        subnet_diff(GRAPH, SPACE, SMALL, SubnetConfig({}))


def test_dropped_levels_are_named() -> None:
    """8·9·(8·64 + 4·(64 + 16 + 4)) = 61056 of 8·9·(8·320 + 4·340) = 282240 MACs."""
    space = derive_space(PYRAMID, SpaceRules(dims=("levels",)))
    text = subnet_table(PYRAMID, space, SubnetConfig({"fpn.levels": 3}))
    assert "fpn.levels  3      4   without fpn:0\n" in text
    assert "subnet    0.0611  21.6 %" in text
    assert "without" not in subnet_table(PYRAMID, space, space.largest)
