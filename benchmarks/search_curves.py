"""Runs a search, watches what it evaluates and what its own work costs, and follows its hypervolume."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.search_cases import GOALS, BudgetSpent, Case
from bnas.search import SEARCHES, Algorithm, Box, Problem, Proposals, SearchConfig, hypervolume, search
from bnas.search.front import Points
from bnas.space import SubnetConfig

T = TypeVar("T")
Array = NDArray[np.float64]
WATCHED = "watched"  # the name in SEARCHES of an algorithm while it is watched


@dataclass(frozen=True, kw_only=True)
class Searched:
    """`evaluated`: what a search had evaluated, in that order. `own_seconds`: of processor, of the algorithm itself.

    `looked_at`: how many candidates it had put into words (`Problem.decode`, `Problem.sample`); what an algorithm
    judges as numbers alone does not count.
    """

    evaluated: tuple[SubnetConfig, ...]
    own_seconds: float
    looked_at: int


@dataclass
class _Watch:
    """Seconds of processor and calls while an algorithm is at work; `others`: seconds of what it has others do."""

    at_work: bool = False
    seconds: float = 0.0
    others: float = 0.0
    calls: int = 0
    evaluated: list[SubnetConfig] = field(default_factory=list)

    def algorithm(self, watched: Algorithm) -> Algorithm:
        def proposals(problem: Problem, config: SearchConfig, seed: int) -> Proposals:
            inner = watched(problem, config, seed)
            answers = None
            while True:
                began, self.at_work = time.process_time(), True
                try:
                    generation = inner.send(answers)  # type: ignore[arg-type]  # the first is None
                except StopIteration:
                    return
                finally:
                    self.seconds += time.process_time() - began
                    self.at_work = False
                answers = yield generation

        return proposals

    def other(self, function: Callable[[SubnetConfig], T], *, counts: bool) -> Callable[[SubnetConfig], T]:
        """`function`, which is not the algorithm's own work; with `counts` each call is a candidate."""

        def watched(config: SubnetConfig) -> T:
            if not self.at_work:
                return function(config)
            began = time.process_time()
            found = function(config)
            self.others += time.process_time() - began
            self.calls += counts
            return found

        return watched

    def evaluation(
        self, evaluate: Callable[[SubnetConfig], Mapping[str, float]]
    ) -> Callable[[SubnetConfig], Mapping[str, float]]:
        def watched(config: SubnetConfig) -> Mapping[str, float]:
            values = evaluate(config)
            self.evaluated.append(config)
            return values

        return watched


def run_search(case: Case, algorithm: Algorithm, seed: int, evaluations: int) -> Searched:
    """One search with the options that bnas has by default, whatever its algorithm; cut short where the budget ends."""
    watch = _Watch()
    SEARCHES[WATCHED] = watch.algorithm(algorithm)
    try:
        search(
            case.space,
            GOALS,
            watch.evaluation(case.evaluate),
            SearchConfig(algorithm=WATCHED, evaluations=evaluations),
            seed=seed,
            cheap=case.cheap and watch.other(case.cheap, counts=False),
            canonical=watch.other(case.canonical, counts=True),
        )
    except BudgetSpent:
        pass
    finally:
        del SEARCHES[WATCHED]
    return Searched(
        evaluated=tuple(watch.evaluated), own_seconds=watch.seconds - watch.others, looked_at=watch.calls
    )


def curve(points: Points, box: Box) -> Array:
    """The hypervolume after each evaluation [evaluations], of their costs [evaluations, 2]."""
    return np.array([hypervolume(points[: count + 1], box) for count in range(len(points))])


def ceiling(front: Points, box: Box, most: int) -> Array:
    """The largest hypervolume that 1 … `most` points of a front [n, 2] can have [most].

    By dynamic programming over the front in its order (Auger et al., 2009): a point behind another adds the rectangle
    that it alone dominates.
    """
    inside = front[(front < box.nadir).all(axis=1)]
    a, b = ((np.array(box.nadir) - inside) / (np.array(box.nadir) - box.ideal))[np.argsort(inside[:, 0])].T
    grows = np.tril(a[:, None] * (b[:, None] - b), -1)  # by the point of the row, behind that of the column
    reached = a * b
    best = [reached.max()]
    while len(best) < min(most, len(a)):
        reached = (reached + grows + np.triu(np.full_like(grows, -np.inf))).max(axis=1)
        best.append(max(best[-1], reached.max()))
    return np.array(best + best[-1:] * (most - len(best)))
