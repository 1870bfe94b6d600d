"""R-NSGA-II (Deb and Sundar, 2006) over integer vectors, by pymoo: the part of the front near a point of interest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bnas.errors import ConfigError, did_you_mean
from bnas.search.algorithms.pymoo_parts import Scale, by_pymoo
from bnas.search.config import SearchConfig
from bnas.search.problem import Problem
from bnas.search.proposals import Proposals


def rnsga2(problem: Problem, config: SearchConfig, seed: int) -> Proposals:
    """Survival by Pareto rank, then by how near `config.preference` is. See `by_pymoo`.

    The distance is Euclidean; each objective counts as a part of the range that the first generation has.

    Raises:
        ConfigError: `config.preference` does not give one number for each objective.
    """
    point = preferred(problem, config)

    def make(scale: Scale, arguments: dict[str, Any]) -> Any:
        from pymoo.algorithms.moo.rnsga2 import RNSGA2

        return RNSGA2(ref_points=scale.normal(point)[None], normalization="no", **arguments)

    return by_pymoo(problem, config, seed, make)


def preferred(problem: Problem, config: SearchConfig) -> tuple[float, ...]:
    """The point of interest, as costs [objectives].

    Raises:
        ConfigError: an objective has no value, or a value has no objective.
    """
    names = [goal.name for goal in problem.objectives]
    for name, value in config.preference.items():
        if name not in names:
            raise ConfigError(f"search.preference.{name}: no such objective{did_you_mean(name, names)}")
        if not math.isfinite(value):
            raise ConfigError(f"search.preference.{name}: expected a number, got {value}")
    if missing := [name for name in names if name not in config.preference]:
        raise ConfigError(
            f"search.preference: expected a value for each objective ({', '.join(names)}), got none for "
            f"{', '.join(missing)}"
        )
    return tuple(float(cost) for cost in np.array(problem.costs(config.preference)))
