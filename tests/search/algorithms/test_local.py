"""Pareto local search; what every algorithm has to do is in test_algorithms."""

from __future__ import annotations

import numpy as np
import pytest

from bnas.search import SearchConfig
from bnas.search.algorithms.local import local, neighbours


@pytest.fixture
def problem(make_problem):
    return make_problem(*[4] * 6)


def step(problem, a, b):
    """By how many values two subnets differ, over all choices."""
    return sum(abs(x - y) for x, y in zip(problem.space.encode(a), problem.space.encode(b), strict=True))


def test_neighbours_are_one_value_away(problem):
    inner, corner = problem.decode([1, 2, 1, 2, 1, 2]), problem.decode([0] * 6)
    rng = np.random.default_rng(0)
    for config, expected in ((inner, 12), (corner, 6)):
        found = neighbours(problem, config, rng)
        assert len(set(found)) == len(found) == expected
        assert {step(problem, config, own) for own in found} == {1}
    assert neighbours(problem, inner, rng) != neighbours(problem, inner, rng)


def test_it_climbs_one_step_at_a_time_and_then_starts_elsewhere(problem):
    """One subnet dominates all, the nearer the better: steps lead to it, and once all around it is known to a new start."""
    top = problem.decode([3, 0, 2, 1, 3, 0])

    def answer(subnet):
        away = step(problem, subnet, top)
        return {"top1_percent": 90.0 - away, "latency_ms": 1.0 + away}

    proposals = local(problem, SearchConfig(population=6), 0)
    generation = next(proposals).subnets
    seen, least, started = list(generation), [], []
    for _ in range(30):
        generation = proposals.send(tuple(map(answer, generation))).subnets
        if any(min(step(problem, own, other) for other in seen) > 1 for own in generation):
            started.append(len(seen))
            assert len(generation) == 6
        seen += generation
        least.append(min(step(problem, own, top) for own in seen))
    assert least[-1] == 0
    known_around_top = {own for own in seen[: started[0]] if step(problem, own, top) == 1}
    assert known_around_top == set(neighbours(problem, top, np.random.default_rng(0)))


def test_every_member_of_the_front_has_a_neighbour_proposed_in_turn(problem):
    """All of the first generation are on the front: each has one of its neighbours in the second."""
    top1 = lambda config: float(sum(problem.space.encode(config)))  # noqa: E731
    order: dict = {}

    def answer(subnet):
        rank = order.setdefault(subnet, len(order))
        return {"top1_percent": 50.0 + rank, "latency_ms": 1.0 + rank}

    proposals = local(problem, SearchConfig(population=5), 0)
    first = next(proposals).subnets
    second = proposals.send(tuple(map(answer, first))).subnets
    assert len(second) == 5
    assert all(min(step(problem, own, child) for child in second) == 1 for own in first)
    assert top1(first[0]) == 18  # the largest: it has a neighbour as well
