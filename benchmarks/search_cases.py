"""What searches are compared on: a space, what evaluates its subnets, and what a search is judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.search_truth import Truth, front_of
from bnas.commands.evaluation import Evaluation, weights_digest
from bnas.commands.objectives import Foreknown
from bnas.commands.project import open_run
from bnas.errors import ConfigError
from bnas.files import append_jsonl, read_jsonl
from bnas.plain import digest
from bnas.search import OBJECTIVES, Box, Cheap
from bnas.search.front import Points
from bnas.space import SearchSpace, SubnetConfig, canonical

GOALS = (OBJECTIVES["top1_percent"], OBJECTIVES["latency_ms"])


class BudgetSpent(Exception):
    """No more true evaluations are allowed in this command."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """`points`: the costs [configs, 2] by which a search is judged that evaluated these; `box`: of the hypervolume.

    `reference`: the points [n, 2] whose hypervolume is 1, asked for when the searches are done.
    `cheap`: what is known without an evaluation; None: nothing.
    """

    name: str
    space: SearchSpace
    canonical: Callable[[SubnetConfig], SubnetConfig]
    evaluate: Callable[[SubnetConfig], Mapping[str, float]]
    cheap: Cheap | None
    points: Callable[[Sequence[SubnetConfig]], Points]
    box: Box
    reference: Callable[[], Points]


def resnet50_cases(truth: Truth, *, name: str = "resnet50", as_evaluated: bool = False) -> list[Case]:
    """The ResNet-50 space with its latency predicted, then with its latency known of what was evaluated only.

    Searches are judged by the true accuracy of what they had evaluated, or by the accuracy that evaluations find.
    """

    def points(configs: Sequence[SubnetConfig]) -> Points:
        return truth.points(configs, evaluated=as_evaluated)

    def latency(config: SubnetConfig) -> dict[str, float]:
        return {"latency_ms": float(truth.latency_ms(truth.settings(config))[0])}

    def evaluate(config: SubnetConfig) -> dict[str, float]:
        return {"top1_percent": truth.evaluated_percent(config), **latency(config)}

    front = truth.front(evaluated=as_evaluated)
    return [
        Case(
            name=f"{name}, latency {known}",
            space=truth.space,
            canonical=truth.canonical,
            evaluate=evaluate,
            cheap=cheap,
            points=points,
            box=box_of(truth.space, truth.canonical, points),
            reference=lambda: front,
        )
        for known, cheap in (("predicted", latency), ("evaluated", None))
    ]


def box_of(
    space: SearchSpace,
    canonical_of: Callable[[SubnetConfig], SubnetConfig],
    points: Callable[[Sequence[SubnetConfig]], Points],
) -> Box:
    """The box of a search's hypervolume: between the largest and the smallest subnet."""
    ends = points([canonical_of(space.largest), canonical_of(space.smallest)])
    return Box(ideal=tuple(ends.min(axis=0).tolist()), nadir=tuple(ends.max(axis=0).tolist()))


@dataclass(frozen=True, kw_only=True)
class Known:
    """A line of the file of evaluations: what an evaluation (`evaluator` tells of which weights) of a config gave."""

    evaluator: str
    config: SubnetConfig
    values: dict[str, float]


class Remembered:
    """Evaluates each subnet once, whoever asks, and keeps the values in a JSONL file; `budget` new ones at most."""

    def __init__(
        self,
        evaluate: Callable[[SubnetConfig], Mapping[str, float]],
        path: Path,
        *,
        evaluator: str,
        budget: int,
    ) -> None:
        self._evaluate, self._path, self._evaluator, self._left = evaluate, path, evaluator, budget
        self.known = {
            line.config: line.values for line in read_jsonl(path, Known) if line.evaluator == evaluator
        }

    def __call__(self, config: SubnetConfig) -> Mapping[str, float]:
        """The values of a subnet.

        Raises:
            BudgetSpent: nobody knows it yet, and no more evaluations are allowed.
        """
        if config not in self.known:
            if self._left < 1:
                raise BudgetSpent
            self._left -= 1
            values = dict(self._evaluate(config))
            append_jsonl(self._path, Known(evaluator=self._evaluator, config=config, values=values))
            self.known[config] = values
        return self.known[config]


def run_case(run: Path, path: Path, budget: int) -> Case:
    """The space of a finished run: accuracies of its trained super-network, latencies of its predictor.

    All evaluations are kept in `path`. The reference is the front of all of them, whichever search asked for them.

    Raises:
        RunError: there is no run in that folder, or it has no super-network or latency model yet.
        ConfigError: its task has no top-1 accuracy.
    """
    project = open_run(run)
    if project.config.train.task != "classification":
        raise ConfigError(f"--run {run}: expected a run of classification, got {project.config.train.task}")
    foreknown = Foreknown(project)
    known = Remembered(
        Evaluation(project),
        path,
        evaluator=digest({"weights": weights_digest(project), "values": foreknown.digest}),
        budget=budget,
    )

    def points(configs: Sequence[SubnetConfig]) -> Points:
        return np.array([[-known(own)["top1_percent"], foreknown(own)["latency_ms"]] for own in configs])

    canonical_of = canonical(project.graph, project.space)
    return Case(
        name=f"{run.name}, latency predicted",
        space=project.space,
        canonical=canonical_of,
        evaluate=known,
        cheap=foreknown,
        points=points,
        box=box_of(project.space, canonical_of, points),
        reference=lambda: front_of(points(list(known.known))),
    )
