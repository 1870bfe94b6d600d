"""Aging evolution (Real et al., 2019, "Regularized evolution"), for several objectives."""

from __future__ import annotations

from collections import deque

import numpy as np

from bnas.search.algorithms.ranking import crowding_distances, pareto_ranks
from bnas.search.config import SearchConfig
from bnas.search.problem import Problem
from bnas.search.proposals import SEARCH, Generation, Proposals, Values, fill, warm_start
from bnas.space import SubnetConfig

SHARE = 4  # a quarter of the population competes to be a parent, as in the paper; as many die in a generation
MUTATIONS = 20  # tries for a child that was never proposed, before a random subnet takes its place


def evolution(problem: Problem, config: SearchConfig, seed: int) -> Proposals:
    """The youngest `population` subnets live; a parent is the best of a random quarter of them; a child is its parent
    with one choice set to another of its values.

    Other than in the paper, the best is that of the least Pareto rank among the living, of equal ones the one with the
    most room around it (crowding distance); a quarter of the population is born at once, so that these can be evaluated
    at once; no subnet is born twice; and what could not be evaluated never lives.
    """
    rng = np.random.default_rng([seed, SEARCH, 2])
    generation = warm_start(problem, np.random.default_rng([seed, SEARCH, 0]), config.population)
    living: deque[tuple[SubnetConfig, Values]] = deque(maxlen=config.population)
    seen: dict[SubnetConfig, None] = {}
    while generation:
        seen |= dict.fromkeys(generation)
        answers = yield Generation(generation)
        living.extend(
            (subnet, own) for subnet, own in zip(generation, answers, strict=True) if own is not None
        )
        births = max(1, config.population // SHARE)
        children = _children(problem, [*living], births, seen, rng)
        generation = fill(problem, rng, births, children, seen)


def _children(
    problem: Problem,
    living: list[tuple[SubnetConfig, Values]],
    births: int,
    seen: dict[SubnetConfig, None],
    rng: np.random.Generator,
) -> dict[SubnetConfig, None]:
    """At most so many children of the living that were never seen."""
    children: dict[SubnetConfig, None] = {}
    open_choices = np.flatnonzero(np.array(problem.space.bounds) > 1)
    if not living or not open_choices.size:
        return children
    points = np.array([problem.costs(values) for _, values in living])
    ranks = pareto_ranks(points, [problem.violation(values) for _, values in living])
    best_first = np.lexsort((-crowding_distances(points, ranks), ranks))
    competing = min(len(living), max(2, len(living) // SHARE))
    for _ in range(births * MUTATIONS):
        if len(children) == births:
            break
        place = rng.choice(
            len(living), competing, replace=False
        ).min()  # of those the first in order of merit
        child = _mutated(problem, living[best_first[place]][0], open_choices, rng)
        if child not in seen and problem.allowed(child):
            children[child] = None
    return children


def _mutated(
    problem: Problem, parent: SubnetConfig, open_choices: np.ndarray, rng: np.random.Generator
) -> SubnetConfig:
    """The parent with one choice set to another of its values, each as likely as the others."""
    indices = list(problem.space.encode(parent))
    place = int(rng.choice(open_choices))
    other = int(rng.integers(problem.space.bounds[place] - 1))
    indices[place] = other + (other >= indices[place])
    return problem.decode(indices)
