"""What is searched: a space, what is wanted of its subnets, and what is known of them without evaluating."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bnas.errors import ConfigError
from bnas.search.constraints import Constraint, violation
from bnas.search.objectives import Objective, costs
from bnas.space import SearchSpace, SubnetConfig

Cheap = Callable[[SubnetConfig], Mapping[str, float]]
"""Values of a subnet, by name, that cost next to nothing: predicted latency, multiply-accumulates."""

TRIES = 50  # random subnets, before one is led towards what is allowed
PROBES = 32  # subnets that are led towards what is allowed, before constraints count as impossible


def _nothing(config: SubnetConfig) -> Mapping[str, float]:
    return {}


def _itself(config: SubnetConfig) -> SubnetConfig:
    return config


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What an algorithm is given.

    `cheap` tells values without an evaluation; a subnet that breaks a constraint on one of these is never evaluated.
    `canonical` gives, of all configs that are one network (a block that is left out may have any width), the one
    that stands for them. `start`: configs for the first generation.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    cheap: Cheap = _nothing
    canonical: Callable[[SubnetConfig], SubnetConfig] = _itself
    start: tuple[SubnetConfig, ...] = ()
    _known: dict[SubnetConfig, Mapping[str, float]] = field(default_factory=dict, repr=False, compare=False)

    def decode(self, indices: Sequence[int]) -> SubnetConfig:
        """The network whose choices have these indices (`space.encode`)."""
        return self.canonical(self.space.decode([int(index) for index in indices]))

    def cheaply(self, config: SubnetConfig) -> Mapping[str, float]:
        """What is known of a subnet without evaluating it; computed once."""
        if config not in self._known:
            self._known[config] = self.cheap(config)
        return self._known[config]

    @property
    def cheap_objectives(self) -> tuple[str, ...]:
        """Names of the objectives that need no evaluation."""
        told = self.cheaply(self.canonical(self.space.largest))
        return tuple(goal.name for goal in self.objectives if goal.name in told)

    def violation(self, values: Mapping[str, float]) -> float:
        """By how much `values` break the constraints on them, as a sum of shares; 0: not at all."""
        return violation(self.constraints, values)

    def allowed(self, config: SubnetConfig) -> bool:
        """Whether it may be evaluated: it keeps the constraints on what is known without."""
        return not self.constraints or self.violation(self.cheaply(config)) == 0

    def costs(self, values: Mapping[str, float]) -> tuple[float, ...]:
        """The point of `values` in objective space, each axis turned so that smaller is better."""
        return costs(self.objectives, values)

    def sample(self, rng: np.random.Generator) -> SubnetConfig:
        """A random subnet that is allowed; where that is rare, one led there from a random one."""
        config = self.canonical(self.space.sample(rng))
        for _ in range(TRIES):
            if self.allowed(config):
                return config
            config = self.canonical(self.space.sample(rng))
        return self.led(config, rng)

    def led(self, config: SubnetConfig, rng: np.random.Generator) -> SubnetConfig:
        """`config` changed a choice at a time, in random order, until it is allowed; as near as that gets."""
        indices = list(self.space.encode(config))
        least = self.violation(self.cheaply(config))
        improved = True
        while least > 0 and improved:
            improved = False
            for place in rng.permutation(len(indices)):
                for step in (-1, 1):
                    moved = [*indices]
                    moved[place] += step
                    if not 0 <= moved[place] < self.space.bounds[place]:
                        continue
                    broken = self.violation(self.cheaply(self.decode(moved)))
                    if broken < least:
                        indices, least, improved = moved, broken, True
                if least == 0:
                    break
        return self.decode(indices)

    def check_possible(self, rng: np.random.Generator) -> None:
        """Raise ConfigError where no subnet keeps the constraints on what is known without evaluating."""
        if not self.constraints:
            return
        tried = [self.canonical(self.space.largest), self.canonical(self.space.smallest)]
        tried += [self.canonical(self.space.sample(rng)) for _ in range(PROBES)]
        for config in tried:
            if self.allowed(self.led(config, rng)):
                return
        known = [values for values in self._known.values() if values]
        own = [c for c in self.constraints if known and c.name in known[0]]
        best = []
        for constraint in own:
            value = known[0][constraint.name]
            for values in known:
                value = constraint.better(value, values[constraint.name])
            best.append(f"{constraint.name}: {value:g}")
        together = " (each by itself)" if len(own) > 1 else ""
        raise ConfigError(
            f"search.constraints: no subnet found with {' and '.join(map(str, own))}; the best there is{together}: "
            f"{', '.join(best)}"
        )
