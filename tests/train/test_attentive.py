from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from bnas.space import Choice, SearchSpace, SubnetConfig
from bnas.train import attentive
from bnas.train.attentive import BINS, POOL, Pool, make_pool

# 12 choices with costs 1, 2, 3 of each, another weight for every choice
SPACE = SearchSpace(
    choices=tuple(Choice(name=f"c{i}", dim="width", values=(1, 2, 3), targets=(f"g{i}",)) for i in range(12))
)
WEIGHTS = {f"c{i}": 10 + 7 * i for i in range(12)}


def macs(subnet: SubnetConfig) -> int:
    return sum(WEIGHTS[name] * value for name, value in subnet.items())


def pool(space: SearchSpace = SPACE, cost: Callable[[SubnetConfig], int] = macs, seed: int = 0) -> Pool:
    rng = np.random.default_rng(seed)
    return make_pool(space, lambda: space.sample(rng), cost)


@pytest.fixture(scope="module")
def made() -> Pool:
    return pool()


def test_candidates_lie_in_one_bin_and_are_distinct(made: Pool) -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        candidates = made.candidates(rng, 3)
        assert len(set(candidates)) == len(candidates) <= 3
        assert len({(macs(subnet) - made.lowest) * BINS // made.span for subnet in candidates}) == 1
        for subnet in candidates:
            SPACE.validate(subnet)


def test_targets_are_drawn_as_the_space_lies(made: Pool) -> None:
    """The costs of what is drawn are distributed like those of uniform draws (two-sample Kolmogorov-Smirnov)."""
    rng = np.random.default_rng(2)
    drawn = np.sort([macs(made.candidates(rng, 1)[0]) for _ in range(1000)])
    uniform = np.sort([macs(SPACE.sample(rng)) for _ in range(4000)])
    points = np.concatenate([drawn, uniform])
    shares = [np.searchsorted(own, points, side="right") / len(own) for own in (drawn, uniform)]
    assert np.abs(shares[0] - shares[1]).max() < 1.63 * (1 / 1000 + 1 / 4000) ** 0.5  # 1 % level
    assert np.ptp(drawn) > 0.7 * made.span


def test_what_is_drawn_near_a_cost_looks_like_what_costs_it(made: Pool) -> None:
    """Dear subnets have more threes, and of the choices with the largest weights most."""
    rng = np.random.default_rng(3)
    dear = [made._near(rng, BINS - 6) for _ in range(200)]
    cheap = [made._near(rng, 5) for _ in range(200)]
    for heavy in ("c9", "c10", "c11"):
        assert np.mean([s[heavy] for s in dear]) > np.mean([s[heavy] for s in cheap]) + 0.5


def test_a_bin_hardly_anything_is_in_still_varies(made: Pool) -> None:
    """The frequencies alone would give its few subnets, again and again."""
    rng = np.random.default_rng(4)
    rare = int(np.argmin(np.diff(made.prior, prepend=0.0)))
    assert np.diff(made.prior, prepend=0.0)[rare] < 5 / POOL
    assert len({made._near(rng, rare) for _ in range(40)}) > 5


def test_the_frequencies_are_those_of_the_pool() -> None:
    rng = np.random.default_rng(0)
    subnets = [SPACE.sample(rng) for _ in range(POOL)]
    made = pool()
    low, high = min(map(macs, subnets)), max(map(macs, subnets))
    assert (made.lowest, made.span) == (low, high - low + 1)
    inside = [s for s in subnets if made.bin_of(macs(s)) == 12]
    counts = Counter(s["c3"] for s in inside)
    whole = Counter(s["c3"] for s in subnets)
    expected = np.cumsum([(counts[v] + whole[v] / POOL) / (len(inside) + 1) for v in (1, 2, 3)])
    assert made.values[12, 3] == pytest.approx(expected)
    assert np.diff(made.prior, prepend=0.0)[12] == pytest.approx(len(inside) / POOL)


def test_values_that_are_not_open_are_never_drawn() -> None:
    rng = np.random.default_rng(0)
    partly = make_pool(SPACE, lambda: SubnetConfig({**SPACE.sample(rng).values, "c0": 3, "c5": 2}), macs)
    drawn = [subnet for _ in range(100) for subnet in partly.candidates(rng, 3)]
    assert {(subnet["c0"], subnet["c5"]) for subnet in drawn} == {(3, 2)}


def test_choices_of_different_numbers_of_values_and_one_cost_for_all() -> None:
    space = SearchSpace(
        choices=(
            Choice(name="a", dim="width", values=(1, 2), targets=("g",)),
            Choice(name="b", dim="depth", values=(0, 1, 2, 3), targets=("x", "y", "z")),
        )
    )
    flat = pool(space, lambda subnet: 7)
    rng = np.random.default_rng(5)
    assert len({subnet for _ in range(200) for subnet in flat.candidates(rng, 2)}) == 8


def test_where_no_draw_hits_the_closest_is_taken(made: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that no subnet has: above the largest."""
    monkeypatch.setattr(attentive, "TRIALS", 200)
    beyond = Pool(**{**vars(made), "lowest": 100_000})
    rng = np.random.default_rng(6)
    taken = macs(beyond._near(rng, BINS - 1))
    others = [macs(made._near(rng, BINS - 1)) for _ in range(20)]
    assert taken >= np.median(others)
