from __future__ import annotations

from itertools import product

import numpy as np

from bnas.search.algorithms.linas.inner_search import Scored, evolve, survivors

BOUNDS = np.array([4, 5, 3, 4, 6])


def _costs(codes):
    share = (codes + 1) / BOUNDS
    return np.stack(
        [-np.sqrt(share) @ np.arange(1.0, 6.0), share @ np.ones(5) + (share[:, 0] * share[:, 4])], axis=1
    )


def _score(codes, limit=np.inf):
    codes = np.unique(codes, axis=0)
    costs = _costs(codes)
    rows = codes @ np.array([1, 10, 100, 1000, 10000])
    return Scored(rows=rows, codes=codes, costs=costs, broken=np.maximum(costs[:, 1] - limit, 0.0))


def _true_front(limit=np.inf):
    codes = np.array(list(product(*map(range, BOUNDS))))
    costs = _costs(codes)
    costs = costs[costs[:, 1] <= limit]
    beaten = [((costs <= own).all(axis=1) & (costs < own).any(axis=1)).any() for own in costs]
    return {tuple(own) for own in costs[~np.array(beaten)].round(9).tolist()}


def _start(rng):
    return rng.integers(BOUNDS, size=(30, 5))


def test_finds_the_true_front():
    """Of 1440 subnets it looks at half, and has nearly the whole front."""
    last, looked = evolve(
        _start(np.random.default_rng(0)), _score, BOUNDS, np.random.default_rng(1), size=60, generations=12
    )
    true = _true_front()
    found = {tuple(own) for own in last.costs.round(9).tolist()}
    assert len(looked) <= 30 + 12 * 60
    assert len(true) > 20
    assert len(found & true) > 0.9 * min(len(true), 60)


def test_constraints_come_before_costs():
    rng = np.random.default_rng(2)
    last, _ = evolve(_start(rng), lambda codes: _score(codes, 2.0), BOUNDS, rng, size=40, generations=15)
    assert (last.broken[: len(last) // 4] == 0).all()
    found = {tuple(own) for own in last.costs[last.broken == 0].round(9).tolist()}
    true = _true_front(2.0)
    assert len(found & true) > 0.9 * min(len(true), 40)


def test_nothing_is_looked_at_twice_and_the_end_of_the_space_is_no_trouble():
    asked = []

    def score(codes):
        asked.extend(map(tuple, codes.tolist()))
        return _score(codes)

    bounds = np.array([2, 2, 2, 1, 1])
    rng = np.random.default_rng(0)
    last, looked = evolve(rng.integers(bounds, size=(3, 5)), score, bounds, rng, size=5, generations=30)
    assert len(looked) == len(set(looked.rows.tolist())) == 8
    assert len(last) == 5
    assert len(set(asked[3:])) == len(asked[3:])


def test_the_same_generator_takes_the_same_way():
    one, two = (
        evolve(
            _start(np.random.default_rng(0)), _score, BOUNDS, np.random.default_rng(5), size=20, generations=5
        )[1]
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.rows, two.rows)


def test_survivors_are_the_best_first_and_spread():
    costs = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5], [0.49, 0.52], [2.0, 2.0]])
    assert set(survivors(costs, np.zeros(5), 2).tolist()) == {0, 1}
    assert survivors(costs, np.zeros(5), 5)[-1] == 4
    assert survivors(costs, np.array([1.0, 0, 0, 0, 0]), 4).tolist().count(0) == 0
