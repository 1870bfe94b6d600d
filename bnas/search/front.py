"""Candidates, the Pareto front among them, and the hypervolume it dominates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bnas.errors import ConfigError, SpaceError, did_you_mean, require
from bnas.search.constraints import Constraint, violation
from bnas.search.objectives import Objective, costs
from bnas.space import SubnetConfig

Points = NDArray[np.float64]  # [points, objectives], every axis turned so that smaller is better


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A subnet and what is known of it; `predicted` names the values that nobody has measured yet.

    `share`: on which share of the images it was evaluated; below 1 it was not promising enough for all.
    """

    config: SubnetConfig
    values: dict[str, float] = field(hash=False)
    predicted: tuple[str, ...] = ()
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A subnet that could not be evaluated, and why."""

    config: SubnetConfig
    reason: str


@dataclass(frozen=True, kw_only=True)
class Round:
    """How well an algorithm's predictors foretold a generation, which they had not seen.

    `evaluations`: how many subnets had been evaluated after it. `kendall_tau` and `mean_error` (in the objective's
    unit) by objective, over all generations foretold so far.
    """

    evaluations: int
    kendall_tau: dict[str, float] = field(hash=False)
    mean_error: dict[str, float] = field(hash=False)


@dataclass(frozen=True, kw_only=True)
class Box:
    """The part of objective space whose dominated share is the hypervolume (as costs: smaller is better).

    Its corners come from the largest and the smallest subnet: `ideal` takes the better, `nadir` the worse of
    their two values on each axis. So the box belongs to the space, not to the search, and hypervolumes of
    different searches of one space can be compared. A front that beats both corners' subnets on an axis
    reaches out of the box: the hypervolume may then exceed 1. Nothing counts beyond the nadir.
    """

    ideal: tuple[float, ...]
    nadir: tuple[float, ...]


def box(objectives: Sequence[Objective], largest: Candidate, smallest: Candidate) -> Box:
    corners = np.array([costs(objectives, c.values) for c in (largest, smallest)])
    return Box(ideal=tuple(corners.min(axis=0).tolist()), nadir=tuple(corners.max(axis=0).tolist()))


def hypervolume(points: Points, within: Box) -> float:
    """The share of the box that `points` [n, objectives] dominate (Zitzler and Thiele, 1999)."""
    moocore = require("moocore", "search")
    ideal, nadir = np.array(within.ideal), np.array(within.nadir)
    # An axis on which the largest and the smallest subnet agree has no length to measure by: keep its unit.
    length = np.where(nadir > ideal, nadir - ideal, 1.0)
    scaled = (points - ideal) / length
    counted = scaled[(scaled < (nadir - ideal) / length).all(axis=1)]
    return float(moocore.hypervolume(counted, ref=(nadir - ideal) / length)) if len(counted) else 0.0


def non_dominated(points: Points) -> list[int]:
    """Indices, ascending, of the points that no other dominates; of equal points only the first."""
    kept: list[int] = []
    for i, point in enumerate(points):
        at_least_as_good = (points <= point).all(axis=1)
        better = at_least_as_good & (points < point).any(axis=1)
        twin = at_least_as_good[:i] & (points[:i] >= point).all(axis=1)
        if not better.any() and not twin.any():
            kept.append(i)
    return kept


@dataclass(frozen=True, kw_only=True)
class ParetoFront:
    """What a search found.

    `members`: the non-dominated candidates that keep the constraints, best first objective first (of equal ones the
    first evaluated). `evaluations`: every candidate that was truly evaluated, in that order; the largest and the
    smallest subnet come first. `hypervolume[i]`: see `Box`, after evaluation i, of what keeps the constraints.
    `hypervolume_box`: its corners. `failed`: the subnets whose evaluation gave no numbers. `rounds`: what the
    algorithm's predictors were worth, where it has any.
    """

    objectives: tuple[Objective, ...]
    members: tuple[Candidate, ...]
    evaluations: tuple[Candidate, ...]
    hypervolume: tuple[float, ...]
    hypervolume_box: Box
    constraints: tuple[Constraint, ...] = ()
    failed: tuple[Failed, ...] = ()
    rounds: tuple[Round, ...] = ()

    def best_under(self, **limits: float) -> Candidate:
        """The member with the best first objective among those within `limits`, as in `latency_ms=5.0`.

        See `top_under`.
        """
        return self.top_under(1, **limits)[0]

    def top_under(self, count: int, **limits: float) -> tuple[Candidate, ...]:
        """The `count` members with the best first objective among those within `limits`, as in `latency_ms=5.0`.

        A limit is the largest value allowed where smaller is better, else the smallest. Fewer only when there are no
        more within them.

        Raises:
            ConfigError: a limit on something that is not an objective.
            SpaceError: no member is within the limits; says the best that exists.
        """
        named = {objective.name: objective for objective in self.objectives}
        within = self.members
        for name, limit in limits.items():
            if name not in named:
                raise ConfigError(f"front: no objective '{name}'{did_you_mean(name, named)}")
            goal = named[name]
            best = goal.best([c.values[name] for c in within])
            within = tuple(c for c in within if goal.cost(c.values[name]) <= goal.cost(limit))
            if not within:
                bound = "most" if goal.direction == "min" else "least"
                raise SpaceError(
                    f"front: no member has {name} of at {bound} {limit:g}; the best there is: {best:g}"
                )
        return within[:count]


def members_of(
    objectives: Sequence[Objective], constraints: Sequence[Constraint], candidates: Sequence[Candidate]
) -> tuple[Candidate, ...]:
    """The non-dominated of those that keep the constraints and were evaluated on all images, best first."""
    fit = [c for c in candidates if c.share == 1 and violation(constraints, c.values) == 0]
    points = np.array([costs(objectives, c.values) for c in fit]).reshape(len(fit), len(objectives))
    order = sorted(non_dominated(points), key=lambda i: (*points[i], i))
    return tuple(fit[i] for i in order)
