"""Random search without repetition: the baseline that every other search must beat."""

from __future__ import annotations

import numpy as np

from bnas.search.objectives import Objective
from bnas.search.proposals import SEARCH, Proposals, SearchConfig, fill, warm_start
from bnas.space import SearchSpace, SubnetConfig


def random_search(
    space: SearchSpace, objectives: tuple[Objective, ...], config: SearchConfig, seed: int
) -> Proposals:
    """The warm start of every search, then different subnets in random order until none is left."""
    rng = np.random.default_rng([seed, SEARCH, 0])
    generation = warm_start(space, rng, config.population)
    seen: set[SubnetConfig] = set()
    while generation:
        seen |= set(generation)
        yield generation
        generation = fill(space, rng, config.population, seen=seen)
