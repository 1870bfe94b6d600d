from __future__ import annotations

from toy import toy_supernet

from bnas.space import Choice, SearchSpace, SubnetConfig
from bnas.train import Stage, sample_stage, smallest_open
from bnas.train.sampling import Place, step_seed

SPACE = toy_supernet().space  # depth (0, 1, 2), three widths (4, 6, 8)
PARTLY = Stage(name="partly", dims={"width": 2})
ALL = Stage(name="all", dims={"depth": 0, "width": 0}, subnets_per_step=2)


def seen(stage: Stage, dim: str) -> set[int]:
    names = [choice.name for choice in SPACE.choices if choice.dim == dim]
    return {
        config[name] for step in range(60) for config in sample_stage(SPACE, stage, 0, step) for name in names
    }


def draws(stage: Stage, seed: int) -> list[tuple[SubnetConfig, ...]]:
    return [sample_stage(SPACE, stage, seed, step) for step in range(20)]


def test_the_same_seed_stage_and_step_draw_the_same_subnets() -> None:
    assert draws(ALL, 3) == draws(ALL, 3)
    assert sample_stage(SPACE, ALL, 3, 17) == draws(ALL, 3)[17]  # whatever was drawn before


def test_another_seed_stage_or_step_draws_others() -> None:
    other = Stage(name="other", dims=ALL.dims, subnets_per_step=2)
    assert draws(ALL, 3) != draws(ALL, 4)
    assert draws(ALL, 3) != draws(other, 3)
    assert len(set(draws(ALL, 3))) > 15


def test_only_open_values_are_drawn_and_all_of_them() -> None:
    assert seen(PARTLY, "width") == {6, 8}
    assert seen(PARTLY, "depth") == {2}
    assert seen(ALL, "width") == {4, 6, 8}
    assert seen(ALL, "depth") == {0, 1, 2}
    assert draws(Stage(name="closed"), 0) == [(SPACE.largest,)] * 20


def test_sandwich_and_largest_hold_their_fixed_subnets() -> None:
    sandwich = Stage(name="s", dims={"width": 2}, sampling="sandwich", subnets_per_step=4)
    for step in range(5):
        largest, smallest, *between = sample_stage(SPACE, sandwich, 0, step)
        assert (largest, smallest) == (SPACE.largest, smallest_open(SPACE, {"width": 2}))
        assert len(between) == 2
    both = Stage(name="l", dims={"width": 0}, sampling="largest", subnets_per_step=2)
    assert [subnets[0] for subnets in draws(both, 0)] == [SPACE.largest] * 20
    assert len({subnets[1] for subnets in draws(both, 0)}) > 5


def test_one_resolution_in_every_step() -> None:
    size = Choice(name="resolution", dim="resolution", values=(4, 5, 6))
    space = SearchSpace(choices=(size, *SPACE.choices))
    stage = Stage(name="s", dims={"resolution": 2, "width": 0}, sampling="sandwich", subnets_per_step=4)
    steps = [sample_stage(space, stage, 0, step) for step in range(30)]
    sizes = [{subnet["resolution"] for subnet in step} for step in steps]
    assert {len(found) for found in sizes} == {1}
    assert set().union(*sizes) == {5, 6}
    for largest, smallest, *_ in steps:  # but for their size they are those of the sampling
        others = set(SPACE.choice_by_name)
        assert {name: largest[name] for name in others} == SPACE.largest.values
        assert {name: smallest[name] for name in others} == smallest_open(SPACE, {"width": 0}).values
    closed = Stage(name="c", dims={"width": 0})
    assert {sample_stage(space, closed, 0, step)[0]["resolution"] for step in range(10)} == {6}


def test_places_do_not_share_numbers() -> None:
    seeds = {
        step_seed(0, stage, place, step) for stage in (PARTLY, ALL) for place in Place for step in range(50)
    }
    assert len(seeds) == 2 * len(Place) * 50
