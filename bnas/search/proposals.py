"""The contract between a search algorithm and the loop that evaluates what it proposes.

An algorithm is a generator: it yields a generation of subnets and is sent back their values, in that order.
It never evaluates, counts or stores anything, so every algorithm gets budget, log and resumption for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from bnas.errors import ConfigError
from bnas.search.objectives import Objective
from bnas.space import SearchSpace, SubnetConfig

SEARCH = 5  # the place of the search among the users of the run's seed
Values = Mapping[str, float]
Proposals = Generator[tuple[SubnetConfig, ...], tuple[Values, ...], None]


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How to search.

    `evaluations`: how many different subnets are truly evaluated; a search may be continued by raising it.
    `population`: subnets per generation. `crossover_eta`, `mutation_eta`: how near children stay to their
    parents (simulated binary crossover, Deb and Agrawal 1995; polynomial mutation, Deb and Goyal 1996).
    `mutation_probability`: per choice; 0 stands for 1 / number of choices.
    """

    algorithm: str = "nsga2"
    evaluations: int = 200
    population: int = 20
    crossover_probability: float = 0.9
    crossover_eta: float = 3.0
    mutation_probability: float = 0.0
    mutation_eta: float = 3.0

    def __post_init__(self) -> None:
        for name in ("evaluations", "population"):
            if getattr(self, name) < 2:
                raise ConfigError(f"{name}: expected 2 or more, got {getattr(self, name)}")
        for name in ("crossover_probability", "mutation_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected 0 to 1, got {getattr(self, name)}")
        for name in ("crossover_eta", "mutation_eta"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}: expected more than 0, got {getattr(self, name)}")


Algorithm = Callable[[SearchSpace, tuple[Objective, ...], SearchConfig, int], Proposals]
"""(space, objectives, config, seed) -> proposals. The same arguments and answers give the same proposals."""


def unseen(
    space: SearchSpace, rng: np.random.Generator, seen: Collection[SubnetConfig]
) -> SubnetConfig | None:
    """A random subnet that is not in `seen` (a set, or a dict's keys); None when the whole space is."""
    for _ in range(100):
        config = space.sample(rng)
        if config not in seen:
            return config
    # Nearly exhausted: count on from a random subnet, as an odometer does. Only len(seen) can be in the way.
    indices = [int(i) for i in rng.integers(space.bounds)]
    for _ in range(min(space.size, len(seen) + 1)):
        config = space.decode(indices)
        if config not in seen:
            return config
        for place, bound in enumerate(space.bounds):
            indices[place] = (indices[place] + 1) % bound
            if indices[place]:
                break
    return None


def fill(
    space: SearchSpace,
    rng: np.random.Generator,
    size: int,
    generation: Iterable[SubnetConfig] = (),
    seen: Iterable[SubnetConfig] = (),
) -> tuple[SubnetConfig, ...]:
    """`generation` cut, or filled up with random subnets that nobody has seen, to `size` different ones.

    Fewer only when the space has no more.
    """
    filled = dict.fromkeys(generation)
    taken = filled | dict.fromkeys(seen)
    while len(filled) < size and (config := unseen(space, rng, taken)) is not None:
        filled[config] = taken[config] = None
    return tuple(filled)[:size]


def warm_start(space: SearchSpace, rng: np.random.Generator, size: int) -> tuple[SubnetConfig, ...]:
    """The largest subnet, the smallest, and random ones: `size` different ones, or the whole space."""
    return fill(space, rng, size, (space.largest, space.smallest))
