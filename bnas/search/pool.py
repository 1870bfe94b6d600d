"""Who evaluates: this process, one subnet after the other, or others at once (parallel)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bnas.errors import ExportError, MeasureError
from bnas.space import SubnetConfig

Evaluate = Callable[..., Mapping[str, float]]
"""Values of one subnet by name: every objective, and whatever else is worth keeping. Called as `evaluate(config)`,
and as `evaluate(config, share)` for an evaluation on a share of the images; then `NAME_error` among the values is the
standard error of NAME."""


@dataclass(frozen=True)
class Job:
    """Evaluate a subnet on a share of the images."""

    config: SubnetConfig
    share: float = 1.0


@dataclass(frozen=True)
class Failure:
    """Why an evaluation gave no values."""

    reason: str


Outcome = Mapping[str, float] | Failure


class Pool(Protocol):
    """Evaluates."""

    def map(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """The outcome of each job, in their order, as soon as it and those before it are there."""
        ...


class OneByOne:
    """Evaluates in this process."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate

    def map(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        for job in jobs:
            yield outcome_of(self._evaluate, job)


def outcome_of(evaluate: Evaluate, job: Job) -> Outcome:
    """What `evaluate` says of a job. A network that cannot be converted or timed has failed; other errors pass."""
    try:
        return evaluate(job.config) if job.share == 1 else evaluate(job.config, job.share)
    except (MeasureError, ExportError) as error:
        return Failure(str(error))
