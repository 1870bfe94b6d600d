from __future__ import annotations

import numpy as np

from bnas.search import Constraint, Problem
from bnas.search.algorithms.linas.candidates import Candidates
from bnas.search.algorithms.linas.design import first_generation, tilted


def _latency(config):
    return {"latency_ms": float(sum(config.values.values()))}


def _problem(space, goals, **options):
    return Problem(
        space=space, objectives=goals, start=(space.largest, space.smallest), cheap=_latency, **options
    )


def test_covers_all_sizes_where_random_subnets_are_middling(make_space, goals):
    space = make_space(*[5] * 20)
    problem = _problem(space, goals)
    first = first_generation(Candidates(problem), np.random.default_rng(0), 20)
    assert len(set(first)) == 20
    assert first[:2] == (space.largest, space.smallest)
    latency = np.sort([_latency(own)["latency_ms"] for own in first])
    whole = latency[-1] - latency[0]
    assert np.diff(latency).max() < 0.15 * whole
    rng = np.random.default_rng(1)
    drawn = np.sort([_latency(problem.sample(rng))["latency_ms"] for _ in range(18)])
    assert drawn[-1] - drawn[0] < 0.5 * whole


def test_every_value_of_every_choice_occurs(make_space, goals):
    first = first_generation(Candidates(_problem(make_space(*[3] * 15), goals)), np.random.default_rng(0), 20)
    for name in first[0]:
        assert len({own[name] for own in first}) == 3


def test_starts_with_the_users_own(make_space, goals):
    space = make_space(5, 5, 5)
    own = space.decode([2, 1, 4])
    problem = Problem(space=space, objectives=goals, start=(own,))
    first = first_generation(Candidates(problem), np.random.default_rng(0), 8)
    assert first[0] == own
    assert {space.largest, space.smallest} < set(first)
    assert first_generation(Candidates(problem), np.random.default_rng(0), 1) == (own,)


def test_keeps_cheap_constraints(make_space, goals):
    space = make_space(*[5] * 8)
    bound = Constraint(name="latency_ms", bound="<=", limit=100.0)
    problem = _problem(space, goals, constraints=(bound,))
    first = first_generation(Candidates(problem), np.random.default_rng(0), 15)
    assert len(first) == 15
    assert all(problem.allowed(own) for own in first)


def test_a_space_smaller_than_the_generation_is_taken_whole(make_space, goals):
    space = make_space(3, 1)
    first = first_generation(Candidates(_problem(space, goals)), np.random.default_rng(0), 20)
    assert len(first) == len(set(first)) == 3


def test_tilted_codes_are_within_bounds_and_of_all_sizes():
    bounds = np.array([1, 2, 5, 9])
    codes = tilted(bounds, np.random.default_rng(0), 2000)
    assert codes.min() == 0
    assert (codes < bounds).all()
    assert (codes.max(axis=0) == bounds - 1).all()
    size = (codes[:, 1:] / (bounds[1:] - 1)).mean(axis=1)
    assert np.mean(size < 0.2) > 0.1 < np.mean(size > 0.8)
