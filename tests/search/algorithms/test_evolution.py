"""Aging evolution; what every algorithm has to do is in test_algorithms."""

from __future__ import annotations

import pytest

from bnas.search import SearchConfig
from bnas.search.algorithms.evolution import SHARE, evolution

POPULATION = 12


@pytest.fixture
def problem(make_problem):
    return make_problem(*[4] * 8)


def distance(problem, a, b):
    """In how many choices two subnets differ."""
    return sum(x != y for x, y in zip(problem.space.encode(a), problem.space.encode(b), strict=True))


def proposed(problem, answer, births):
    proposals = evolution(problem, SearchConfig(population=POPULATION), 1)
    generations = [next(proposals).subnets]
    while len(generations) < births:
        generations.append(proposals.send(tuple(map(answer, generations[-1]))).subnets)
    return generations


def test_a_child_differs_from_one_of_the_living_in_one_choice(problem, make_truth):
    first, *rest = proposed(problem, make_truth(problem.space, 1), births=30)
    assert len(first) == POPULATION
    assert {len(generation) for generation in rest} == {POPULATION // SHARE}
    lived = list(first)
    for generation in rest:
        for child in generation:
            assert min(distance(problem, child, own) for own in lived[-POPULATION:]) == 1
        lived += generation


def test_the_old_die_however_good_they_were(problem, make_truth):
    """The youngest of the first generation beats all; once it has died, no child of it is born any more."""
    truth = make_truth(problem.space, 1)
    *_, best = start = proposed(problem, truth, births=1)[0]

    def answer(subnet):
        if subnet == best:
            return {"top1_percent": 1e3, "latency_ms": 1e-3}
        return {"top1_percent": 1.0, "latency_ms": 1.0 + distance(problem, subnet, start[2]) / 100}

    generations = proposed(problem, answer, births=12)
    near = [min(distance(problem, child, best) for child in generation) for generation in generations[1:]]
    assert near[:SHARE].count(1) > SHARE / 2  # a quarter of the population dies in each generation
    assert 1 not in near[SHARE:]


def test_the_failed_do_not_live(problem, make_truth):
    truth = make_truth(problem.space, 1)
    first = proposed(problem, truth, births=1)[0]

    def answer(subnet):
        return None if subnet in first[6:] else truth(subnet)

    second = proposed(problem, answer, births=2)[1]
    for child in second:
        assert min(distance(problem, child, own) for own in first[:6]) == 1
