from __future__ import annotations

from dataclasses import replace

import pytest
from graphs import GRAPH, PYRAMID, STAGE, TOWER

from bnas.errors import SpaceError
from bnas.graph import ChannelGraph
from bnas.space import Choice, SearchSpace, SpaceRules, check_fits, derive_space


def width(name: str, values: tuple[int, ...], *targets: str) -> Choice:
    return Choice(name=f"{name}.width", dim="width", values=values, targets=targets or (name,))


def problems(graph: ChannelGraph, *choices: Choice) -> list[str]:
    with pytest.raises(SpaceError) as error:
        check_fits(graph, SearchSpace(choices=choices))
    start = "the search space does not fit the model: "
    assert str(error.value).startswith(start)
    return str(error.value).removeprefix(start).split("; ")


@pytest.mark.parametrize("mode", ["first", "spread", "free"])
def test_what_is_derived_fits(mode: str) -> None:
    rules = SpaceRules(dims=("depth", "width", "kernel"), depth_mode=mode)  # type: ignore[arg-type]
    for graph in (GRAPH, STAGE):
        check_fits(graph, derive_space(graph, rules))
    rules = replace(rules, dims=(*rules.dims, "resolution"))
    check_fits(TOWER, derive_space(TOWER, replace(rules, skip=("t.*",), tie=(("t.1.kernel", "t.2.kernel"),))))


def test_all_problems_are_listed_at_once() -> None:
    assert problems(
        GRAPH,
        Choice(name="s.depth", dim="depth", values=(-1, 1), targets=("s.0", "s.2")),
        width("b", (8, 40)),
        width("g", (6, 32)),
        width("out", (5, 10)),
        width("a", (8, 48)),
        Choice(name="a.kernel", dim="kernle", values=(3, 5), targets=("a",)),
        Choice(name="none", dim="width", values=(3, 5)),
    ) == [
        "s.depth: no skippable block 's.2'",
        "did you mean 's.1'?",
        "s.depth: the largest depth must be 2, all its blocks, got 1",
        "s.depth: -1 is no depth",
        "b.width: no group 'b'",
        "there are: a, g, out",
        "g.width: 6 is not a positive multiple of 4, the unit of 'g'",
        "out.width: 'out' is frozen, because it is an output of the model",
        "a.width: the largest width must be 40, that of 'a', got 48",
        "a.kernel: no elastic dimension 'kernle'",
        "did you mean 'kernel'?",
        "none: there are no targets",
    ]


def test_kernels_resolutions_and_patterns() -> None:
    assert problems(
        TOWER,
        Choice(name="t.0.kernel", dim="kernel", values=(4, 7), targets=("t.0",), pattern="spread"),
        Choice(name="t.1.kernel", dim="kernel", values=(3, 5), targets=("t.1", "t.3", "t.9")),
        Choice(name="t.2.kernel", dim="kernel", values=(1, 3), targets=("t.2",)),
        Choice(name="resolution", dim="resolution", values=(20, 32), targets=("stem",)),
        Choice(name="t.depth", dim="depth", values=(0, 1), targets=("t.1",), pattern="last"),
    ) == [
        "t.0.kernel: 4 is not possible",
        "possible: 3, 5, 7",
        "t.0.kernel: the pattern must be first, as it has no depth, got 'spread'",
        "t.1.kernel: the kernel of 't.3' cannot be cropped",
        "t.1.kernel: no layer 't.9'",
        "did you mean 't.3'?",
        "t.2.kernel: the largest kernel must be 5, got 3",
        "t.2.kernel: 1 is not possible",
        "possible: 3, 5",
        "resolution: a resolution has no targets, got stem",
        "resolution: the largest size must be 48, got 32",
        "resolution: 20 is not possible",
        "possible: 24, 32, 48",
        "t.depth: the pattern must be first or spread, got 'last'",
    ]
    assert problems(STAGE, Choice(name="r", dim="resolution", values=(24, 48))) == [
        "r: a choice of resolutions is called 'resolution'",
        "r: no sizes of the input were traced",
        "make the space again with space.resolutions",
    ]


def test_nothing_is_chosen_twice() -> None:
    assert problems(
        TOWER,
        width("stem", (16, 32), "stem", "t.0"),
        width("t.0", (16, 32)),
    ) == ["'t.0' occurs 2 times, in stem.width and t.0.width"]
    blocks = ("b.0", "b.1", "b.0")
    assert problems(STAGE, Choice(name="b.depth", dim="depth", values=(0, 3), targets=blocks)) == [
        "'b.0' occurs 2 times, in b.depth"
    ]


def test_a_preserving_block_needs_one_width_around_it() -> None:
    depth = Choice(name="t.depth", dim="depth", values=(0, 1, 2), targets=("t.1", "t.2"))
    assert problems(TOWER, depth, width("t.0", (16, 32), "t.0", "t.1"), width("t.2", (16, 32))) == [
        "t.depth: without 't.2' the widths of 't.1' and 't.2' must be one choice with both as targets"
    ]
    check_fits(TOWER, SearchSpace(choices=(depth,)))  # no width at all: nothing can differ
    check_fits(TOWER, SearchSpace(choices=(depth, width("t.0", (16, 32), "t.0", "t.1", "t.2"))))


def test_levels() -> None:
    check_fits(PYRAMID, derive_space(PYRAMID, SpaceRules(dims=("levels",))))
    assert problems(
        PYRAMID,
        Choice(name="a", dim="levels", values=(1, 3), targets=("fpn",)),
        Choice(name="b", dim="levels", values=(1, 2), targets=("other",)),
        Choice(name="c", dim="levels", values=(3, 4), targets=("fp",)),
        Choice(name="d", dim="levels", values=(3, 4), targets=("fpn",)),
        Choice(name="e", dim="levels", values=(3, 4)),
    ) == [
        "a: the largest number of levels must be 4, got 3",
        "a: 1 is not possible",
        "possible: 2, 3, 4",
        "b: the levels of 'other' must all stay, because it has a forward of its own",
        "c: no pyramid 'fp'",
        "did you mean 'fpn'?",
        "e: there are no targets",
        "'fpn' occurs 2 times, in a and d",
    ]
