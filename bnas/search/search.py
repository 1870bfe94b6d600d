"""The search loop: budget, log, progress and front, around an algorithm that only proposes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bnas import progress
from bnas.errors import ConfigError, SpaceError, did_you_mean
from bnas.search.algorithms.table import SEARCHES
from bnas.search.config import SearchConfig
from bnas.search.constraints import parse_constraints
from bnas.search.course import Course
from bnas.search.evaluation_log import EvaluationLog, SearchBegun
from bnas.search.evaluations import Evaluations
from bnas.search.front import ParetoFront
from bnas.search.objectives import Objective, check_objectives
from bnas.search.pool import Evaluate, Job, OneByOne, Outcome, Pool
from bnas.search.problem import Cheap, Problem
from bnas.search.proposals import SEARCH
from bnas.search.screen import promising
from bnas.search.start import starts
from bnas.space import SearchSpace, SubnetConfig


def search(
    space: SearchSpace,
    objectives: Sequence[Objective],
    evaluate: Evaluate | Mapping[str, Callable[[SubnetConfig], float]] | Pool,
    config: SearchConfig | None = None,
    *,
    seed: int,
    cheap: Cheap | None = None,
    canonical: Callable[[SubnetConfig], SubnetConfig] | None = None,
    start: Sequence[SubnetConfig] | None = None,
    log: Path | None = None,
    evaluator: str = "",
    predicted: Sequence[str] = (),
) -> ParetoFront:
    """Search `space` for the best trade-offs between two or more objectives.

    `config.evaluations` different subnets are evaluated, each once, fewer only when the space is smaller;
    first of all the largest and the smallest (they span the box of the hypervolume). With `log`, each
    evaluation is appended to that JSONL file as it comes; an interrupted search that is started again
    replays itself from the seed with the stored values, and ends with the result of an undisturbed one.
    A finished one goes on where it was when `config.evaluations` is raised.
    A subnet whose evaluation gives a number that is not finite has failed: it is kept among `failed`, and the search
    goes on.

    Args:
        evaluate: a function from a config to its values by name; one function for each objective, by name; or a
            `Pool` that evaluates many at once.
        cheap: values that need no evaluation (predicted latency, multiply-accumulates); they need not be among those
            that `evaluate` gives. Constraints on them keep subnets from being evaluated at all.
        canonical: gives, of all configs that are one network, the one that stands for them.
        start: configs for the first generation besides random ones; None: those that `config.start` names.
        evaluator: digest of all that `evaluate` depends on, so that a log of other weights is not continued.
        predicted: names of those values that are predicted rather than measured.

    Raises:
        ConfigError: an unknown algorithm, fewer than two objectives, constraints that no subnet keeps, a start that
            does not exist or does not belong to the space, a `config.preference` that is needed and missing.
        MeasureError: an evaluation without one of the objectives, or none of the first that gives finite numbers.
        SpaceError: no subnet that was evaluated keeps the constraints; says the best there is.
        RunError: `log` is damaged or belongs to another search.
    """
    config = config or SearchConfig()
    problem = pose(space, objectives, config, seed=seed, cheap=cheap, canonical=canonical, start=start)
    begun = SearchBegun(
        space=space.digest,
        evaluator=evaluator,
        seed=seed,
        objectives=problem.objectives,
        constraints=problem.constraints,
        start=tuple(subnet.digest for subnet in problem.start),
        config=replace(config, workers=0),  # any number of them gives the same log
    )
    done = Evaluations(problem, predicted)
    course = Course(SEARCHES[config.algorithm], config, done, seed=seed)
    pool = _pool_of(evaluate, config.screen)
    evaluating = _Evaluating(done, pool, EvaluationLog(log, begun), screen=config.screen)
    budget = min(config.evaluations, space.size)
    with progress.bar("search", total=budget) as step:
        evaluating.begin(step)
        while len(done.known) < budget and (wanted := course.wanted()):
            evaluating.evaluate(wanted[: budget - len(done.known)], step)
        course.end()
    return done.front()


def pose(
    space: SearchSpace,
    objectives: Sequence[Objective],
    config: SearchConfig,
    *,
    seed: int,
    cheap: Cheap | None = None,
    canonical: Callable[[SubnetConfig], SubnetConfig] | None = None,
    start: Sequence[SubnetConfig] | None = None,
) -> Problem:
    """The problem that `search` and `AskTell` hand to the algorithm, checked as far as it can be.

    Raises:
        ConfigError: an unknown algorithm, fewer than two objectives, constraints that no subnet keeps, a start that
            does not exist or does not belong to the space.
    """
    goals = check_objectives(objectives)
    if config.algorithm not in SEARCHES:
        raise ConfigError(
            f"search.algorithm: no search '{config.algorithm}'{did_you_mean(config.algorithm, SEARCHES)}"
        )
    own = {"cheap": cheap, "canonical": canonical}
    problem = Problem(
        space=space,
        objectives=goals,
        constraints=parse_constraints(config.constraints),
        **{name: function for name, function in own.items() if function is not None},  # type: ignore[arg-type]
    )
    problem.check_possible(np.random.default_rng([seed, SEARCH, 9]))
    if start is None:
        rng = np.random.default_rng([seed, SEARCH, 8])
        start = starts(config.start, problem, config.population, rng)
    for place, subnet in enumerate(start):
        try:
            space.validate(subnet)
        except SpaceError as error:
            raise ConfigError(f"start[{place}]: the subnet does not belong to this space: {error}") from error
    return replace(problem, start=tuple(dict.fromkeys(map(problem.canonical, start))))


def _pool_of(
    evaluate: Evaluate | Mapping[str, Callable[[SubnetConfig], float]] | Pool, screen: float
) -> Pool:
    if isinstance(evaluate, Mapping):
        if screen < 1:
            raise ConfigError(
                "search.screen: functions of a config alone cannot evaluate on a share of the images; expected 1, got "
                f"{screen:g}"
            )
        functions = dict(evaluate)
        return OneByOne(lambda subnet: {name: function(subnet) for name, function in functions.items()})
    return OneByOne(evaluate) if callable(evaluate) else evaluate


class _Evaluating:
    """Has subnets evaluated, on a `screen` share of the images first, or finds in the log what was evaluated."""

    def __init__(self, done: Evaluations, pool: Pool, log: EvaluationLog, *, screen: float) -> None:
        self._done, self._pool, self._log, self._screen = done, pool, log, screen

    def begin(self, step: Callable[..., None]) -> None:
        """Evaluate the largest and the smallest subnet, which span the box of the hypervolume."""
        ends = self._done.ends
        self._take([Job(end) for end in ends])
        self._done.check_ends()
        for end in ends:
            self._count(end, step)

    def evaluate(self, subnets: Sequence[SubnetConfig], step: Callable[..., None]) -> None:
        """Evaluate those, on a share of the images first where that is asked for."""
        if self._screen == 1:
            self._take([Job(subnet) for subnet in subnets], lambda subnet: self._count(subnet, step))
            return
        self._take([Job(subnet, self._screen) for subnet in subnets])
        problem, known, front = self._done.problem, self._done.known, self._done.points
        self._take([Job(subnet) for subnet in subnets if promising(problem, known[subnet], front)])
        for subnet in subnets:
            self._count(subnet, step)

    def _take(self, jobs: Sequence[Job], then: Callable[[SubnetConfig], None] | None = None) -> None:
        for job, outcome in zip(jobs, self._answers(jobs), strict=True):
            self._done.take(job, outcome)
            if then is not None:
                then(job.config)

    def _count(self, subnet: SubnetConfig, step: Callable[..., None]) -> None:
        self._done.count(subnet)
        step(note=self._done.summary())

    def _answers(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """The outcomes of jobs, from the log as long as it has them; each new one is in the log before it is used."""
        for place, job in enumerate(jobs):
            outcome = self._log.answer(job)
            if outcome is None:
                rest = jobs[place:]
                for own, new in zip(rest, self._pool.map(rest), strict=True):
                    outcome = self._done.checked(own, new)
                    self._log.append(own, outcome)
                    yield outcome
                return
            yield outcome
