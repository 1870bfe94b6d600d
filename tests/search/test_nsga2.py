"""Oracle 8: the true front where it can be listed; better than random where it cannot."""

from __future__ import annotations

from statistics import median

import numpy as np

from bnas.search import SearchConfig, search
from bnas.search.nsga2 import nsga2
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
    front = search(space, goals, truth, SearchConfig(evaluations=550, population=40), seed=3)
    assert len(front.evaluations) == 550
    assert {member.config for member in front.members} == true_front


def test_dominates_more_than_random_at_equal_budget(make_space, make_truth, goals):
    space = make_space(*[5] * 12)  # 244 million subnets
    reached = {
        algorithm: [
            search(
                space,
                goals,
                make_truth(space, 7),
                SearchConfig(algorithm=algorithm, evaluations=150),
                seed=seed,
            ).hypervolume[-1]
            for seed in range(5)
        ]
        for algorithm in ("nsga2", "random")
    }
    assert median(reached["nsga2"]) > median(reached["random"]) + 0.02


def test_three_objectives(make_space, make_truth, goals):
    space = make_space(4, 4, 4, 4)
    truth = make_truth(space, 2)
    third = goals[1].__class__(name="width", direction="min")

    def evaluate(config):
        return {**truth(config), "width": sum(config.values.values())}

    front = search(space, (*goals, third), evaluate, SearchConfig(evaluations=60), seed=0)
    assert len(front.hypervolume) == 60
    assert list(front.hypervolume) == sorted(front.hypervolume)


def test_proposes_nothing_twice_until_the_space_is_exhausted(make_space, make_truth, goals):
    space = make_space(3, 4, 5, 1)
    truth = make_truth(space, 0)
    proposals = nsga2(space, goals, SearchConfig(population=9), 5)
    proposed = []
    try:
        generation = next(proposals)
        while True:
            assert 0 < len(generation) <= 9
            proposed.extend(generation)
            generation = proposals.send(tuple(truth(config) for config in generation))
    except StopIteration:
        pass
    assert len(proposed) == len(set(proposed)) == space.size


def test_owes_nothing_to_the_global_random_state(make_space, make_truth, goals):
    space = make_space(4, 4, 4, 4)

    def evaluate(config):
        np.random.random(3)
        return make_truth(space, 0)(config)

    np.random.seed(1)
    one = search(space, goals, evaluate, SearchConfig(evaluations=60, population=10), seed=4)
    np.random.seed(2)
    two = search(space, goals, evaluate, SearchConfig(evaluations=60, population=10), seed=4)
    other = search(space, goals, evaluate, SearchConfig(evaluations=60, population=10), seed=5)
    assert one == two
    assert one.evaluations != other.evaluations


def test_later_generations_gather_near_the_front(make_space, make_truth, goals):
    """Children come from the parents' values: turn the objectives round and they go the other way."""
    space = make_space(*[5] * 10)
    truth = make_truth(space, 3)

    def mean_latency(evaluate):
        front = search(space, goals, evaluate, SearchConfig(evaluations=200), seed=0)
        return np.mean([truth(c.config)["latency_ms"] for c in front.evaluations[150:]])

    # Only one objective varies: all selection pressure is on it.
    fast = mean_latency(lambda c: {"top1_percent": 1.0, "latency_ms": truth(c)["latency_ms"]})
    slow = mean_latency(lambda c: {"top1_percent": 1.0, "latency_ms": -truth(c)["latency_ms"]})
    largest = costs(goals, truth(space.largest))[1]
    assert fast < 0.5 * slow < 0.5 * largest + 0.1
