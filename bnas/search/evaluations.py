"""All that is known of a space's subnets so far, and the front among it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bnas.errors import MeasureError, SpaceError
from bnas.search.constraints import Constraint
from bnas.search.foretold import Foretold
from bnas.search.front import (
    Box,
    Candidate,
    Failed,
    ParetoFront,
    Points,
    box,
    hypervolume,
    members_of,
    non_dominated,
)
from bnas.search.objectives import check_values, not_finite
from bnas.search.pool import Failure, Job, Outcome
from bnas.search.problem import Problem
from bnas.search.proposals import Generation, Values
from bnas.space import SubnetConfig


class Evaluations:
    """Takes outcomes in any order; the hypervolume is counted from the moment when its box is known."""

    def __init__(self, problem: Problem, predicted: Sequence[str] = ()) -> None:
        self.problem = problem
        self.known: dict[SubnetConfig, Candidate | Failed] = {}
        self._predicted = tuple(predicted)
        self._corners: Box | None = None
        self._waiting: list[SubnetConfig] = []  # what has to be counted once there is a box
        self._front = np.empty((0, len(problem.objectives)))
        self._history: list[float] = []
        self._foretold = Foretold(problem.objectives)

    @property
    def ends(self) -> tuple[SubnetConfig, ...]:
        """The largest and the smallest subnet, which span the box of the hypervolume."""
        space = self.problem.space
        return tuple(dict.fromkeys(map(self.problem.canonical, (space.largest, space.smallest))))

    @property
    def points(self) -> Points:
        """The non-dominated points that keep the constraints [points, objectives], as costs."""
        return self._front

    def checked(self, job: Job, outcome: Outcome) -> Outcome:
        """With the values that need no evaluation; a failure where a number is not finite.

        Raises:
            MeasureError: an objective, or a value that is constrained, is missing.
        """
        if isinstance(outcome, Failure):
            return outcome
        if not isinstance(outcome, Mapping):
            raise MeasureError(
                f"the evaluation of subnet {job.config.digest} gave {outcome!r}; expected values by name, as "
                f"{{'{self.problem.objectives[0].name}': 1.0}}"
            )
        wanted = [goal.name for goal in self.problem.objectives]
        wanted += [own.name for own in self.problem.constraints]
        told = {**self.problem.cheaply(job.config), **outcome}
        values = check_values(wanted, told, job.config.digest)
        bad = not_finite(values)
        return Failure(f"it gave {bad}") if bad else values

    def take(self, job: Job, outcome: Outcome) -> None:
        """Remember what was `checked`; a later outcome for the same subnet takes the place of an earlier."""
        if isinstance(outcome, Failure):
            self.known[job.config] = Failed(config=job.config, reason=outcome.reason)
        else:
            self.known[job.config] = Candidate(
                config=job.config, values=dict(outcome), predicted=self._predicted, share=job.share
            )

    def count(self, subnet: SubnetConfig) -> None:
        """Add what was taken of a subnet, which will not change any more, to the front and its history."""
        self._waiting.append(subnet)
        if self._corners is None:
            found = [self.known.get(end) for end in self.ends]
            spanning = [own for own in found if isinstance(own, Candidate)]
            if len(spanning) == len(found):
                self._corners = box(self.problem.objectives, spanning[0], spanning[-1])
        if self._corners is not None:
            for own in self._waiting:
                self._add(own, self._corners)
            self._waiting.clear()

    def check_ends(self) -> None:
        """Raise unless the largest and the smallest subnet have been evaluated.

        Raises:
            MeasureError: one of them failed.
            SpaceError: one of them is not there yet.
        """
        for end in self.ends:
            found = self.known.get(end)
            if isinstance(found, Failed):
                raise MeasureError(
                    f"search: the largest and the smallest subnet cannot be evaluated: {found.reason}"
                )
            if found is None:
                raise SpaceError(
                    f"search: subnet {end.digest} is not among the {len(self.known)} that were evaluated; the largest"
                    " and the smallest have to be, as they span the box of the hypervolume"
                )

    def values(self, subnet: SubnetConfig) -> Values | None:
        """What is sent back to the algorithm; None: it failed, or is not evaluated as the budget is spent."""
        candidate = self.known.get(subnet)
        return candidate.values if isinstance(candidate, Candidate) else None

    def judge(self, generation: Generation) -> None:
        """Hold what the algorithm foretold against what was found."""
        self._foretold.add(
            generation, [self.values(subnet) for subnet in generation.subnets], len(self.known)
        )

    def summary(self) -> str:
        """The best of each objective and the hypervolume, in a few words."""
        best = (
            f"{goal.name} {goal.cost(self._front[:, i].min()):.4g}"
            for i, goal in enumerate(self.problem.objectives)
            if len(self._front)
        )
        return "  ".join((*best, f"hypervolume {self._history[-1] if self._history else 0.0:.3f}"))

    def front(self) -> ParetoFront:
        """The result so far.

        Raises:
            SpaceError: nothing that was evaluated keeps the constraints, or an end of the space is not among it.
            MeasureError: the largest or the smallest subnet could not be evaluated.
        """
        self.check_ends()
        assert self._corners is not None
        candidates = tuple(own for own in self.known.values() if isinstance(own, Candidate))
        members = members_of(self.problem.objectives, self.problem.constraints, candidates)
        if not members:
            raise SpaceError(_unkept(self.problem.constraints, candidates))
        return ParetoFront(
            objectives=self.problem.objectives,
            constraints=self.problem.constraints,
            members=members,
            evaluations=candidates,
            hypervolume=tuple(self._history),
            hypervolume_box=self._corners,
            failed=tuple(own for own in self.known.values() if isinstance(own, Failed)),
            rounds=tuple(self._foretold.rounds),
        )

    def _add(self, subnet: SubnetConfig, corners: Box) -> None:
        candidate = self.known[subnet]
        if isinstance(candidate, Failed):
            return
        hypervolume_now = self._history[-1] if self._history else 0.0
        if candidate.share == 1 and self.problem.violation(candidate.values) == 0:
            self._front = np.vstack([self._front, self.problem.costs(candidate.values)])
            self._front = self._front[non_dominated(self._front)]
            hypervolume_now = hypervolume(self._front, corners)
        self._history.append(hypervolume_now)


def _unkept(constraints: Sequence[Constraint], candidates: Sequence[Candidate]) -> str:
    best = []
    for own in constraints:
        value = candidates[0].values[own.name]
        for candidate in candidates:
            value = own.better(value, candidate.values[own.name])
        best.append(f"{own.name}: {value:g}")
    return (
        f"search: none of the {len(candidates)} subnets evaluated has {' and '.join(map(str, constraints))}; the best "
        f"there is{' (each by itself)' if len(constraints) > 1 else ''}: {', '.join(best)}"
    )
