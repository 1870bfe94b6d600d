"""NSGA-II (Deb et al., 2002) over integer vectors, by pymoo."""

from __future__ import annotations

from typing import Any

from bnas.search.algorithms.pymoo_parts import Scale, by_pymoo
from bnas.search.config import SearchConfig
from bnas.search.problem import Problem
from bnas.search.proposals import Proposals


def nsga2(problem: Problem, config: SearchConfig, seed: int) -> Proposals:
    """Survival by Pareto rank, then by crowding distance. See `by_pymoo`."""

    def make(scale: Scale, arguments: dict[str, Any]) -> Any:
        from pymoo.algorithms.moo.nsga2 import NSGA2

        return NSGA2(**arguments)

    return by_pymoo(problem, config, seed, make)
