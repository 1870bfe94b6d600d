"""R-NSGA-II; what every algorithm has to do is in test_algorithms."""

from __future__ import annotations

from statistics import median

import numpy as np
import pytest

from bnas.errors import ConfigError
from bnas.search import SearchConfig, search
from bnas.search.algorithms.rnsga2 import preferred

POINT = {"top1_percent": 80.0, "latency_ms": 2.0}


def test_it_searches_near_the_point_of_interest(make_space, make_truth, goals):
    """The latest evaluations are nearer to the point than those of NSGA-II, which wants the whole front."""
    space = make_space(*[5] * 10)
    truth = make_truth(space, 3)
    largest, smallest = truth(space.largest), truth(space.smallest)
    length = {name: abs(largest[name] - smallest[name]) for name in POINT}

    def distance(values, point):
        return float(np.hypot(*((values[name] - point[name]) / length[name] for name in point)))

    def late(algorithm, point):
        """Values of what three searches evaluated last."""
        config = SearchConfig(algorithm=algorithm, evaluations=120, population=16, preference=point)
        fronts = [search(space, goals, truth, config, seed=seed) for seed in range(3)]
        return [candidate.values for front in fronts for candidate in front.evaluations[80:]]

    everywhere = late("nsga2", {})
    for share in (0.25, 0.75):  # a quick point and an accurate one
        point = {name: smallest[name] + share * (largest[name] - smallest[name]) for name in POINT}
        near, usual = (
            median(distance(values, point) for values in own) for own in (late("rnsga2", point), everywhere)
        )
        assert near < 0.8 * usual


@pytest.mark.parametrize(
    ("preference", "said"),
    [
        (
            {},
            r"search.preference: expected a value for each objective \(top1_percent, latency_ms\), got none for top1_percent, l",
        ),
        ({"latency_ms": 2.0}, "search.preference: expected a value for each .* got none for top1_percent$"),
        (
            {**POINT, "latency": 2.0},
            "search.preference.latency: no such objective; did you mean 'latency_ms'",
        ),
        ({**POINT, "latency_ms": float("nan")}, "search.preference.latency_ms: expected a number, got nan"),
    ],
)
def test_a_point_that_is_none_is_refused_before_anything_is_evaluated(make_space, goals, preference, said):
    def evaluate(config):
        raise AssertionError("nothing should be evaluated")

    config = SearchConfig(algorithm="rnsga2", preference=preference)
    with pytest.raises(ConfigError, match=f"^{said}"):
        search(make_space(3, 3), goals, evaluate, config, seed=0)


def test_the_point_is_in_the_order_of_the_objectives_as_costs(make_problem):
    config = SearchConfig(preference={"latency_ms": 2.0, "top1_percent": 80.0})
    assert preferred(make_problem(2), config) == (-80.0, 2.0)
