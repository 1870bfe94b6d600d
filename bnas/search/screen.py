"""Which subnets are worth an evaluation on all images, after one on a share of them."""

from __future__ import annotations

import numpy as np

from bnas.search.front import Candidate, Failed, Points
from bnas.search.problem import Problem

STANDARD_ERRORS = 2.0  # that a subnet may be better than its evaluation on a share of the images says


def promising(problem: Problem, candidate: Candidate | Failed, front: Points) -> bool:
    """Whether a subnet might belong to the front [n, objectives], were it as much better as chance allows.

    The standard error of a value is what the evaluation gave as `NAME_error`; without one the value is exact.
    """
    if isinstance(candidate, Failed):
        return False
    values = candidate.values

    def at_best(name: str, direction: float) -> float:
        return values[name] + direction * STANDARD_ERRORS * values.get(f"{name}_error", 0.0)

    for own in problem.constraints:
        if own.violation({own.name: at_best(own.name, 1 if own.bound == ">=" else -1)}) > 0:
            return False
    best = {
        goal.name: at_best(goal.name, 1 if goal.direction == "max" else -1) for goal in problem.objectives
    }
    point = np.array(problem.costs(best))
    beaten = (front <= point).all(axis=1) & (front < point).any(axis=1)
    return not bool(beaten.any())
