"""Random search without repetition: the baseline that every other search must beat."""

from __future__ import annotations

import numpy as np

from bnas.search.config import SearchConfig
from bnas.search.problem import Problem
from bnas.search.proposals import SEARCH, Generation, Proposals, fill, warm_start
from bnas.space import SubnetConfig


def random_search(problem: Problem, config: SearchConfig, seed: int) -> Proposals:
    """The warm start of every search, then different subnets in random order until none is left."""
    rng = np.random.default_rng([seed, SEARCH, 0])
    generation = warm_start(problem, rng, config.population)
    seen: set[SubnetConfig] = set()
    while generation:
        seen |= set(generation)
        yield Generation(generation)
        generation = fill(problem, rng, config.population, seen=seen)
