"""NSGA-II; what every algorithm has to do is in test_algorithms."""

from __future__ import annotations

import numpy as np

from bnas.search import SearchConfig, search
from bnas.search.objectives import costs


def test_finds_the_true_front_of_an_enumerable_space(make_space, make_truth, every_subnet, goals):
    space = make_space(4, 4, 4, 4, 3)  # 768 subnets
    truth = make_truth(space, 1)
    values = {config: truth(config) for config in every_subnet(space)}
    points = {config: (-v["top1_percent"], v["latency_ms"]) for config, v in values.items()}
    true_front = {
        config
        for config, (a, b) in points.items()
        if not any(x <= a and y <= b and (x, y) != (a, b) for x, y in points.values())
    }
    assert 10 < len(true_front) < 200
    front = search(
        space, goals, truth, SearchConfig(algorithm="nsga2", evaluations=550, population=40), seed=3
    )
    assert len(front.evaluations) == 550
    assert {member.config for member in front.members} == true_front


def test_owes_nothing_to_the_global_random_state(make_space, make_truth, goals):
    space = make_space(4, 4, 4, 4)

    def evaluate(config):
        np.random.random(3)
        return make_truth(space, 0)(config)

    np.random.seed(1)
    one = search(
        space, goals, evaluate, SearchConfig(algorithm="nsga2", evaluations=60, population=10), seed=4
    )
    np.random.seed(2)
    two = search(
        space, goals, evaluate, SearchConfig(algorithm="nsga2", evaluations=60, population=10), seed=4
    )
    other = search(
        space, goals, evaluate, SearchConfig(algorithm="nsga2", evaluations=60, population=10), seed=5
    )
    assert one == two
    assert one.evaluations != other.evaluations


def test_later_generations_gather_near_the_front(make_space, make_truth, goals):
    """Children come from the parents' values: turn the objectives round and they go the other way."""
    space = make_space(*[5] * 10)
    truth = make_truth(space, 3)

    def mean_latency(evaluate):
        front = search(space, goals, evaluate, SearchConfig(algorithm="nsga2", evaluations=200), seed=0)
        return np.mean([truth(c.config)["latency_ms"] for c in front.evaluations[150:]])

    # Only one objective varies: all selection pressure is on it.
    fast = mean_latency(lambda c: {"top1_percent": 1.0, "latency_ms": truth(c)["latency_ms"]})
    slow = mean_latency(lambda c: {"top1_percent": 1.0, "latency_ms": -truth(c)["latency_ms"]})
    largest = costs(goals, truth(space.largest))[1]
    assert fast < 0.5 * slow < 0.5 * largest + 0.1
