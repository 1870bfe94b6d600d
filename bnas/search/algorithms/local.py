"""Pareto local search (Paquete, Chiarandini and Stützle, 2004) from many starts.

Local search from random starts is as good as any other on several NAS benchmarks (White, Nolen and Savani, 2021).
"""

from __future__ import annotations

import numpy as np

from bnas.search.algorithms.ranking import pareto_ranks
from bnas.search.config import SearchConfig
from bnas.search.problem import Problem
from bnas.search.proposals import SEARCH, Generation, Proposals, Values, fill, warm_start
from bnas.space import SubnetConfig


def local(problem: Problem, config: SearchConfig, seed: int) -> Proposals:
    """Proposes neighbours of the front's members: one choice one value up or down.

    Each member has one neighbour proposed in turn, in random order, rather than all of one member at once, so that no
    evaluations are spent around a member that is dominated by then. Once every neighbour of every member is known, all
    starts again from a random generation with a front of its own.
    """
    rng = np.random.default_rng([seed, SEARCH, 3])
    generation = warm_start(problem, np.random.default_rng([seed, SEARCH, 0]), config.population)
    seen: dict[SubnetConfig, None] = {}
    while generation:
        climb: dict[SubnetConfig, Values] = {}  # the front of what was evaluated since this start
        around: dict[SubnetConfig, list[SubnetConfig]] = {}
        while generation:
            seen |= dict.fromkeys(generation)
            answers = yield Generation(generation)
            found = {subnet: own for subnet, own in zip(generation, answers, strict=True) if own is not None}
            climb = _front(problem, climb | found)
            for member in climb:
                if member not in around:
                    around[member] = neighbours(problem, member, rng)
            generation = _in_turn([around[member] for member in climb], problem, config.population, seen, rng)
        generation = fill(problem, rng, config.population, seen=seen)


def neighbours(problem: Problem, config: SubnetConfig, rng: np.random.Generator) -> list[SubnetConfig]:
    """The subnets with one choice one value higher or lower, in random order."""
    indices, found = problem.space.encode(config), []
    for place, bound in enumerate(problem.space.bounds):
        for moved in (indices[place] - 1, indices[place] + 1):
            if 0 <= moved < bound:
                found.append(problem.decode((*indices[:place], moved, *indices[place + 1 :])))
    return [found[i] for i in rng.permutation(len(found))]


def _front(problem: Problem, known: dict[SubnetConfig, Values]) -> dict[SubnetConfig, Values]:
    if not known:
        return known
    points = np.array([problem.costs(values) for values in known.values()])
    ranks = pareto_ranks(points, [problem.violation(values) for values in known.values()])
    return {subnet: own for (subnet, own), rank in zip(known.items(), ranks, strict=True) if rank == 0}


def _in_turn(
    queues: list[list[SubnetConfig]],
    problem: Problem,
    size: int,
    seen: dict[SubnetConfig, None],
    rng: np.random.Generator,
) -> tuple[SubnetConfig, ...]:
    """Up to `size` subnets, new and allowed, one of each queue in turn; takes them out of the queues."""
    chosen: dict[SubnetConfig, None] = {}
    left = [queues[i] for i in rng.permutation(len(queues))]
    while left and len(chosen) < size:
        for queue in left:
            while queue:
                subnet = queue.pop()
                if subnet not in seen and subnet not in chosen and problem.allowed(subnet):
                    chosen[subnet] = None
                    break
            if len(chosen) == size:
                break
        left = [queue for queue in left if queue]
    return tuple(chosen)
