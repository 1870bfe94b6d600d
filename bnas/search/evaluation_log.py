"""The JSONL log of a search: one line says which search it is, then one line per true evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bnas.errors import RunError
from bnas.files import append_jsonl, read_jsonl
from bnas.plain import flat, to_plain
from bnas.search.config import SearchConfig
from bnas.search.constraints import Constraint
from bnas.search.objectives import Objective
from bnas.search.pool import Failure, Job, Outcome
from bnas.space import SubnetConfig

_FREE = ("config.evaluations", "config.workers")  # what two parts of one search may differ in


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """Any line of the log; `kind` says which."""


@dataclass(frozen=True, kw_only=True)
class SearchBegun(LogLine):
    """What decides the course of a search. `space`, `evaluator`: digests of the space and of all that the
    evaluation depends on (weights, data, latency model). `start`: digests of the configs that it starts from."""

    kind: Literal["search"] = "search"
    space: str
    evaluator: str
    seed: int
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    start: tuple[str, ...] = ()
    config: SearchConfig


@dataclass(frozen=True, kw_only=True)
class Answered(LogLine):
    """What an evaluation of `config` on a `share` of the images gave."""

    config: SubnetConfig
    share: float = field(default=1.0, metadata={"plain": "unless default"})


@dataclass(frozen=True, kw_only=True)
class Evaluated(Answered):
    kind: Literal["evaluation"] = "evaluation"
    values: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class FailedLine(Answered):
    """The evaluation gave no finite numbers; `reason` says what."""

    kind: Literal["failure"] = "failure"
    reason: str


class EvaluationLog:
    """Answers evaluations from a former, interrupted search as long as it has them; stores the new ones.

    The search is deterministic, so the k-th evaluation now must be the k-th line of the log.

    Raises:
        RunError: the file is damaged, or was made by a search with another space, evaluation, seed,
            objectives or settings (a different number of evaluations, or of workers, is allowed).
    """

    def __init__(self, path: Path | None, begun: SearchBegun) -> None:
        self._path = path
        self._stored: list[Answered] = []
        self._answered = 0
        if path is None:
            return
        lines = read_jsonl(path, LogLine) if path.exists() else []
        if not lines:
            append_jsonl(path, begun)
            return
        first, *rest = lines
        if not isinstance(first, SearchBegun) or not all(isinstance(line, Answered) for line in rest):
            raise RunError(f"{path} is not the log of one search; delete it to search anew")
        if other := _difference(first, begun):
            raise RunError(f"{path} is the log of another search: {other}; delete it to search anew")
        self._stored = [line for line in rest if isinstance(line, Answered)]

    def answer(self, job: Job) -> Outcome | None:
        """What the log holds of `job`, the next evaluation; None when it holds no more.

        Raises:
            RunError: the log holds another subnet here, so it was not made by this search.
        """
        if self._answered == len(self._stored):
            return None
        line = self._stored[self._answered]
        if (line.config, line.share) != (job.config, job.share):
            raise RunError(
                f"{self._path}: line {self._answered + 2} holds subnet {line.config.digest}, where this"
                f" search proposes {job.config.digest} (was it made with another version of pymoo?);"
                " delete it to search anew"
            )
        self._answered += 1
        return Failure(line.reason) if isinstance(line, FailedLine) else _values(line)

    def append(self, job: Job, outcome: Outcome) -> None:
        if self._path is None:
            return
        if isinstance(outcome, Failure):
            append_jsonl(self._path, FailedLine(config=job.config, share=job.share, reason=outcome.reason))
        else:
            append_jsonl(self._path, Evaluated(config=job.config, share=job.share, values=dict(outcome)))


def _values(line: Answered) -> dict[str, float]:
    assert isinstance(line, Evaluated)
    return line.values


def _difference(stored: SearchBegun, now: SearchBegun) -> str:
    """The first thing that two searches do not share, in words; the number of evaluations does not count."""
    before, after = _described(stored), _described(now)
    for name in sorted(before.keys() | after.keys()):
        if name not in _FREE and before.get(name) != after.get(name):
            return f"it has {name} {before.get(name)}, now {after.get(name)}"
    return ""


def _described(begun: SearchBegun) -> dict[str, Any]:
    goals = ", ".join(f"{goal.direction} {goal.name}" for goal in begun.objectives)
    bounds = ", ".join(map(str, begun.constraints)) or "none"
    return flat({**to_plain(begun), "objectives": goals, "constraints": bounds})
