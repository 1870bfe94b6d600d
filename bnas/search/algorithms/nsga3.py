"""NSGA-III (Deb and Jain, 2014) over integer vectors, by pymoo: for three and more objectives."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np

from bnas.search.algorithms.pymoo_parts import Scale, by_pymoo
from bnas.search.config import SearchConfig
from bnas.search.front import Points
from bnas.search.problem import Problem
from bnas.search.proposals import Proposals


def nsga3(problem: Problem, config: SearchConfig, seed: int) -> Proposals:
    """Survival by Pareto rank, then by how few others are near the same reference direction. See `by_pymoo`."""

    def make(scale: Scale, arguments: dict[str, Any]) -> Any:
        from pymoo.algorithms.moo.nsga3 import NSGA3
        from pymoo.operators.selection.tournament import TournamentSelection

        toward = directions(len(problem.objectives), config.population)
        own = {
            "ref_dirs": toward,
            "pop_size": max(config.population, len(toward)),
            "selection": TournamentSelection(func_comp=_less_broken),
        }
        return NSGA3(**{**arguments, **own})

    return by_pymoo(problem, config, seed, make)


def directions(objectives: int, at_most: int) -> Points:
    """Reference directions [directions, objectives] at equal steps of the simplex (Das and Dennis, 1998).

    As many as `at_most` allows, but one for each objective at least.
    """
    from pymoo.util.ref_dirs import get_reference_directions

    steps = 1
    while comb(objectives + steps, steps + 1) <= at_most:
        steps += 1
    found: Points = get_reference_directions("das-dennis", objectives, n_partitions=steps)
    return found


def _less_broken(population: Any, pairs: Any, random_state: np.random.Generator, **_: Any) -> Any:
    """Of each pair [tournaments, 2] that which breaks the constraints less, or any [tournaments, 1].

    pymoo's own (0.6.2) draws ties between what breaks them from a generator without a seed.
    """
    broken = population.get("CV")[:, 0][pairs]
    first = np.where(
        broken[:, 0] == broken[:, 1], random_state.random(len(pairs)) < 0.5, broken[:, 0] < broken[:, 1]
    )
    return np.where(first, pairs[:, 0], pairs[:, 1])[:, None]
