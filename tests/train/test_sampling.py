from __future__ import annotations

from collections.abc import Callable

import pytest
from toy import toy_supernet

from bnas.space import Choice, SearchSpace, SubnetConfig
from bnas.train import SAMPLINGS, Stage, make_sampler, smallest_open
from bnas.train.sampling import Draws, Place, step_seed

SPACE = toy_supernet().space  # depth (0, 1, 2), three widths (4, 6, 8)
SIZES = Choice(name="resolution", dim="resolution", values=(4, 5, 6))
SIZED = SearchSpace(choices=(SIZES, *SPACE.choices))
PARTLY = Stage(name="partly", dims={"width": 2})
ALL = Stage(name="all", dims={"depth": 0, "width": 0}, subnets_per_step=2)


def total(subnet: SubnetConfig) -> int:
    """Stands for MACs."""
    return sum(subnet.values.values())


def sampler(stage: Stage, seed: int = 0, space: SearchSpace = SPACE) -> Callable[[int], Draws]:
    return make_sampler(space, stage, seed, total)


def draws(
    stage: Stage, seed: int = 0, space: SearchSpace = SPACE, steps: int = 20
) -> list[tuple[SubnetConfig, ...]]:
    """The subnets of the first steps, where each has one candidate."""
    draw = sampler(stage, seed, space)
    return [tuple(subnet for (subnet,) in draw(step)) for step in range(steps)]


def seen(stage: Stage, dim: str) -> set[int]:
    names = [choice.name for choice in SPACE.choices if choice.dim == dim]
    return {subnet[name] for step in draws(stage, steps=60) for subnet in step for name in names}


def stage_of(sampling: str, **dims: int) -> Stage:
    return Stage(name="s", dims=dims, sampling=sampling, subnets_per_step=SAMPLINGS[sampling].fewest + 1)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_step_is_the_same_whatever_was_drawn_before(sampling: str) -> None:
    stage = stage_of(sampling, depth=0, width=0, resolution=0)
    first = sampler(stage, 3, SIZED)
    steps = [first(step) for step in range(20)]
    again = sampler(stage, 3, SIZED)
    assert [again(step) for step in (17, 4, 0)] == [steps[17], steps[4], steps[0]]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_another_seed_stage_or_step_draws_others(sampling: str) -> None:
    stage = stage_of(sampling, depth=0, width=0)
    others = sampler(stage, 4), sampler(Stage(**{**vars(stage), "name": "other"}), 3)
    steps = list(map(sampler(stage, 3), range(20)))
    assert all(steps != list(map(other, range(20))) for other in others)
    assert len(set(steps)) > 12


def test_only_open_values_are_drawn_and_all_of_them() -> None:
    assert seen(PARTLY, "width") == {6, 8}
    assert seen(PARTLY, "depth") == {2}
    assert seen(ALL, "width") == {4, 6, 8}
    assert seen(ALL, "depth") == {0, 1, 2}
    assert draws(Stage(name="closed")) == [(SPACE.largest,)] * 20


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_fixed_subnets_come_first(sampling: str) -> None:
    stage = stage_of(sampling, width=2)
    smallest = smallest_open(SPACE, {"width": 2})
    fixed = {"random": [], "largest": [SPACE.largest]}.get(sampling, [SPACE.largest, smallest])
    for step in range(5):
        found = sampler(stage)(step)
        assert len(found) == stage.subnets_per_step
        assert list(found[: len(fixed)]) == [(subnet,) for subnet in fixed]
    assert SAMPLINGS[sampling].has_largest == (SPACE.largest in fixed)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_one_resolution_in_every_step(sampling: str) -> None:
    stage = stage_of(sampling, resolution=2, width=0)
    draw = sampler(stage, 0, SIZED)
    steps = [[subnet for candidates in draw(step) for subnet in candidates] for step in range(30)]
    sizes = [{subnet["resolution"] for subnet in step} for step in steps]
    assert {len(found) for found in sizes} == {1}
    assert set().union(*sizes) == {5, 6}
    others = set(SPACE.choice_by_name)
    fixed = SAMPLINGS[sampling].fixed(SPACE, stage.dims)
    for step in steps:  # but for their size they are those of the sampling
        for subnet, expected in zip(step, fixed, strict=False):
            assert {name: subnet[name] for name in others} == expected.values
    closed = sampler(stage_of(sampling, width=0), 0, SIZED)
    assert {subnet["resolution"] for step in range(9) for own in closed(step) for subnet in own} == {6}


@pytest.mark.parametrize("sampling", ["best_up", "worst_up"])
def test_attentive_candidates_are_like_each_other_in_macs(sampling: str) -> None:
    """Here all subnets of one total are one bin: at most 8 + 8 + 8 + 2 - (4 + 4 + 4) + 1 = 15 totals."""
    stage = Stage(**{**vars(stage_of(sampling, depth=0, width=0)), "candidates": 4})
    draw = sampler(stage)
    steps = [draw(step) for step in range(30)]
    picked = [candidates for step in steps for candidates in step[2:]]
    assert all(1 <= len(own) <= 4 and len(set(own)) == len(own) for own in picked)
    assert sum(len(own) > 1 for own in picked) > len(picked) / 2
    assert {len({total(subnet) for subnet in own}) for own in picked} == {1}
    assert len({total(own[0]) for own in picked}) > 5


def test_places_do_not_share_numbers() -> None:
    seeds = {
        step_seed(0, stage, place, step) for stage in (PARTLY, ALL) for place in Place for step in range(50)
    }
    assert len(seeds) == 2 * len(Place) * 50
