"""NSGA-III; what every algorithm has to do is in test_algorithms."""

from __future__ import annotations

from statistics import median

import numpy as np
import pytest

from bnas.search import Objective, SearchConfig, search
from bnas.search.algorithms.nsga3 import _less_broken, directions


@pytest.mark.parametrize(
    ("objectives", "at_most", "expected"),
    [(2, 20, 20), (2, 2, 2), (3, 20, 15), (3, 21, 21), (4, 20, 20), (4, 2, 4)],
)
def test_as_many_directions_as_the_population_allows(objectives, at_most, expected):
    found = directions(objectives, at_most)
    assert found.shape == (expected, objectives)
    assert found.sum(axis=1) == pytest.approx(np.ones(expected))
    assert len(np.unique(found.round(9), axis=0)) == expected
    assert all(axis in found.tolist() for axis in np.eye(objectives).tolist())


def test_three_objectives_are_covered_better_than_by_chance(make_space, make_truth, goals):
    space = make_space(*[4] * 8)
    truth = make_truth(space, 2)
    third = Objective(name="width", direction="min")

    def evaluate(config):
        return {**truth(config), "width": config["layer0.width"] + config["layer1.width"] / 2}

    def reached(algorithm):
        config = SearchConfig(algorithm=algorithm, evaluations=120, population=15)
        return median(
            search(space, (*goals, third), evaluate, config, seed=seed).hypervolume[-1] for seed in range(3)
        )

    assert reached("nsga3") > reached("random") + 0.02


class _Population:
    def __init__(self, broken):
        self.broken = np.array(broken)[:, None]

    def get(self, name):
        assert name == "CV"
        return self.broken


def test_a_tournament_goes_to_what_breaks_constraints_less_and_ties_to_chance():
    population = _Population([0.0, 0.0, 2.0, 1.0, 1.0])
    pairs = np.array([[0, 2], [3, 0], [2, 4], [2, 3]])
    rng = np.random.default_rng(0)
    assert _less_broken(population, pairs, random_state=rng)[:, 0].tolist() == [0, 0, 4, 3]
    ties = np.array([[0, 1], [3, 4]] * 100)
    one = _less_broken(population, ties, random_state=np.random.default_rng(1))
    assert (one == _less_broken(population, ties, random_state=np.random.default_rng(1))).all()
    counts = np.bincount(one[:, 0])
    assert 30 < counts[0] < 70
    assert 30 < counts[3] < 70
