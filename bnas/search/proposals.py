"""The contract between a search algorithm and the loop that evaluates what it proposes.

An algorithm is a generator: it yields a generation of subnets and is sent back their values, in that order.
It never evaluates, counts or stores anything, so every algorithm gets budget, log and resumption for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from bnas.search.config import SearchConfig
from bnas.search.problem import Problem
from bnas.space import SubnetConfig

SEARCH = 5  # the place of the search among the users of the run's seed
ODOMETER = 5000  # configs that are counted through for one that is allowed and new, where most are neither
Values = Mapping[str, float]


@dataclass(frozen=True)
class Expected:
    """A prediction and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Generation:
    """Subnets to evaluate; `expected` holds for each what the algorithm predicts of it, by objective, if it does."""

    subnets: tuple[SubnetConfig, ...]
    expected: tuple[Mapping[str, Expected], ...] = ()


Proposals = Generator[Generation, "tuple[Values | None, ...]", None]
"""Sent back are the values of each subnet of the generation, in order; None where its evaluation failed."""

Algorithm = Callable[[Problem, SearchConfig, int], Proposals]
"""(problem, config, seed) -> proposals. The same arguments and answers give the same proposals."""


def unseen(problem: Problem, rng: np.random.Generator, seen: Collection[SubnetConfig]) -> SubnetConfig | None:
    """A random allowed subnet that is not in `seen` (a set, or a dict's keys); None when none is left to find."""
    for _ in range(100):
        config = problem.sample(rng)
        if config not in seen and problem.allowed(config):
            return config
    # Nearly exhausted: count on from a random subnet, as an odometer does. Only len(seen) can be in the way, and
    # what is not allowed or the same network.
    space = problem.space
    indices = [int(i) for i in rng.integers(space.bounds)]
    for _ in range(min(space.size, len(seen) + ODOMETER)):
        config = problem.decode(indices)
        if config not in seen and problem.allowed(config):
            return config
        for place, bound in enumerate(space.bounds):
            indices[place] = (indices[place] + 1) % bound
            if indices[place]:
                break
    return None


def fill(
    problem: Problem,
    rng: np.random.Generator,
    size: int,
    generation: Iterable[SubnetConfig] = (),
    seen: Iterable[SubnetConfig] = (),
) -> tuple[SubnetConfig, ...]:
    """`generation` cut, or filled up with random subnets that nobody has seen, to `size` different allowed ones.

    Fewer only when there are no more to be found.
    """
    filled = dict.fromkeys(config for config in generation if problem.allowed(config))
    taken = filled | dict.fromkeys(seen)
    while len(filled) < size and (config := unseen(problem, rng, taken)) is not None:
        filled[config] = taken[config] = None
    return tuple(filled)[:size]


def warm_start(problem: Problem, rng: np.random.Generator, size: int) -> tuple[SubnetConfig, ...]:
    """The problem's start and random subnets: `size` different ones, or the whole space."""
    return fill(problem, rng, size, problem.start)
