from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bnas.measure.selection import choose, choose_unsure, random_subnets
from bnas.space import Choice, SearchSpace, SubnetConfig


def space_of(*counts: int) -> SearchSpace:
    return SearchSpace(
        choices=tuple(
            Choice(name=f"layer{index}.width", dim="width", values=tuple(range(1, count + 1)))
            for index, count in enumerate(counts)
        )
    )


SPACE = space_of(*[4] * 8)


def describe(config: SubnetConfig) -> dict[str, float]:
    """Unequal layers, so that sums do not follow from the number of small choices."""
    return {
        "macs": float(sum(2**index * value for index, (_, value) in enumerate(config.items()))),
        "layers": float(len(config)),  # the same for all: says nothing
    }


def chosen(
    count: int, *, space: SearchSpace = SPACE, seed: int = 0, **options: object
) -> tuple[SubnetConfig, ...]:
    known: Sequence[SubnetConfig] = options.pop("known", ())  # type: ignore[assignment]
    return choose(space, known, count, seed=seed, describe=describe, **options)  # type: ignore[arg-type]


def design_matrix(configs: Sequence[SubnetConfig]) -> np.ndarray:
    return np.array([[1.0, *((index - 1.5) for index in SPACE.encode(own))] for own in configs])


def test_the_largest_and_the_smallest_come_first_and_none_twice() -> None:
    configs = chosen(40)
    assert configs[:2] == (SPACE.largest, SPACE.smallest)
    assert len(configs) == len(set(configs)) == 40
    for config in configs:
        SPACE.validate(config)


def test_the_seed_decides() -> None:
    assert chosen(10) == chosen(10)
    assert chosen(10) != chosen(10, seed=1)


@pytest.mark.parametrize("done", [0, 1, 2, 3, 11, 19])
def test_a_campaign_that_was_interrupted_goes_on_with_the_same(done: int) -> None:
    configs = chosen(20)
    assert configs[:done] + chosen(20 - done, known=configs[:done]) == configs


def test_the_order_of_what_is_known_does_not_matter() -> None:
    configs = chosen(12)
    assert chosen(5, known=configs) == chosen(5, known=configs[::-1])


def test_held_out_ones_are_random_different_and_not_chosen() -> None:
    held_out = random_subnets(SPACE, 30, 0)
    assert len(set(held_out)) == 30
    assert not {SPACE.largest, SPACE.smallest} & set(held_out)
    assert held_out == random_subnets(SPACE, 50, 0)[:30]
    without_any = chosen(30)
    assert not set(held_out) & set(chosen(30, without=held_out))
    # … not by chance: what would have been chosen can be forbidden.
    assert not set(without_any) & set(chosen(30, without=without_any))


def test_random_ones_are_drawn_uniformly() -> None:
    indices = np.array([SPACE.encode(own) for own in random_subnets(SPACE, 2000, 3)])
    for column in indices.T:
        assert np.bincount(column, minlength=4) / 2000 == pytest.approx(np.full(4, 0.25), abs=0.04)


def test_chosen_ones_pin_down_a_linear_law_better_than_random_ones() -> None:
    """The witness: the mean variance of least squares over the whole space, (X'X)⁻¹ in closed form."""
    everywhere = design_matrix(random_subnets(SPACE, 500, 99))

    def mean_variance(configs: Sequence[SubnetConfig]) -> float:
        x = design_matrix(configs)
        return float(np.trace(everywhere @ np.linalg.inv(x.T @ x) @ everywhere.T) / len(everywhere))

    for count in (12, 24):
        ours = [mean_variance(chosen(count, seed=seed)) for seed in range(5)]
        random = [mean_variance(random_subnets(SPACE, count, seed)) for seed in range(20)]
        assert max(ours) < np.median(random)


def test_chosen_ones_reach_all_sizes() -> None:
    sizes = np.array([describe(own)["macs"] for own in chosen(30)])
    random = np.array([describe(own)["macs"] for own in random_subnets(SPACE, 30, 0)])
    assert sizes.std() > 1.15 * random.std()


def test_a_small_space_is_taken_whole() -> None:
    space = space_of(2, 3)
    configs = choose(space, (), 50, seed=0, describe=describe)
    assert len(configs) == len(set(configs)) == space.size == 6
    held_out = random_subnets(space, 50, 0)
    assert len(held_out) == 4
    assert set(choose(space, (), 50, seed=0, describe=describe, without=held_out)) == {
        space.largest,
        space.smallest,
    }
    assert choose(space, configs, 1, seed=0, describe=describe) == ()
    assert (
        choose_unsure(space, configs, 1, seed=0, uncertainty=lambda own: [1.0] * len(own), describe=describe)
        == ()
    )


def test_a_space_without_a_choice() -> None:
    space = space_of(1)
    assert choose(space, (), 5, seed=0, describe=describe) == (space.largest,)
    assert random_subnets(space, 5, 0) == ()
    assert choose(SPACE, (), 0, seed=0, describe=describe) == ()


def test_more_than_the_pool_are_random_and_the_sequence_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnas.measure.selection.POOL", 4)
    configs = chosen(30)
    assert len(set(configs)) == 30
    assert configs[:20] + chosen(10, known=configs[:20]) == configs


def unsure(
    count: int, known: Sequence[SubnetConfig], of: object = None, **options: object
) -> tuple[SubnetConfig, ...]:
    def uncertainty(configs: Sequence[SubnetConfig]) -> list[float]:
        return [float(of(own)) if callable(of) else 1.0 for own in configs]

    return choose_unsure(
        SPACE,
        known,
        count,
        seed=0,
        uncertainty=uncertainty,
        describe=describe,
        **options,  # type: ignore[arg-type]
    )


def test_the_unsure_ones_are_chosen() -> None:
    known = chosen(10)
    large_first = unsure(6, known, lambda own: 100.0 if own["layer0.width"] == 4 else 1.0)
    assert {own["layer0.width"] for own in large_first} == {4}
    assert {own["layer0.width"] for own in unsure(6, known)} != {4}
    assert not set(large_first) & set(known)


def test_unsure_ones_are_unlike_each_other() -> None:
    """All are equally unsure, but for one corner, a little more: not all come from the corner."""

    def corner(own: SubnetConfig) -> float:
        return 1.0 + 0.05 * describe(own)["macs"] / describe(SPACE.largest)["macs"]

    known = chosen(10)
    ours = unsure(8, known, corner)
    indices = np.array([SPACE.encode(own) for own in ours])
    assert (indices.std(axis=0) > 0.5).all()


def test_unsure_ones_are_the_same_again_others_later_and_never_held_out() -> None:
    known = chosen(10)
    ours = unsure(5, known)
    assert ours == unsure(5, known)
    assert ours[:3] == unsure(3, known)
    assert not set(ours) & set(unsure(5, [*known, *ours]))
    assert not set(ours) & set(unsure(5, known, without=ours))
