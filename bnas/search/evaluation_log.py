"""The JSONL log of a search: one line says which search it is, then one line per true evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bnas.errors import RunError
from bnas.files import append_jsonl, read_jsonl
from bnas.plain import flat, to_plain
from bnas.search.objectives import Objective
from bnas.search.proposals import SearchConfig
from bnas.space import SubnetConfig


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """Any line of the log; `kind` says which."""


@dataclass(frozen=True, kw_only=True)
class SearchBegun(LogLine):
    """What decides the course of a search. `space`, `evaluator`: digests of the space and of all that the
    evaluation depends on (weights, data, latency model)."""

    kind: Literal["search"] = "search"
    space: str
    evaluator: str
    seed: int
    objectives: tuple[Objective, ...]
    config: SearchConfig


@dataclass(frozen=True, kw_only=True)
class Evaluated(LogLine):
    kind: Literal["evaluation"] = "evaluation"
    config: SubnetConfig
    values: dict[str, float]


class EvaluationLog:
    """Answers evaluations from a former, interrupted search as long as it has them; stores the new ones.

    The search is deterministic, so the k-th evaluation now must be the k-th line of the log.

    Raises:
        RunError: the file is damaged, or was made by a search with another space, evaluation, seed,
            objectives or settings (a different number of evaluations is allowed).
    """

    def __init__(self, path: Path | None, begun: SearchBegun) -> None:
        self._path = path
        self._stored: list[Evaluated] = []
        self._answered = 0
        if path is None:
            return
        lines = read_jsonl(path, LogLine) if path.exists() else []
        if not lines:
            append_jsonl(path, begun)
            return
        first, *rest = lines
        if not isinstance(first, SearchBegun) or not all(isinstance(line, Evaluated) for line in rest):
            raise RunError(f"{path} is not the log of one search; delete it to search anew")
        if other := _difference(first, begun):
            raise RunError(f"{path} is the log of another search: {other}; delete it to search anew")
        self._stored = [line for line in rest if isinstance(line, Evaluated)]

    def answer(self, config: SubnetConfig) -> dict[str, float] | None:
        """The stored values of `config`, the next subnet to evaluate; None when the log holds no more.

        Raises:
            RunError: the log holds another subnet here, so it was not made by this search.
        """
        if self._answered == len(self._stored):
            return None
        line = self._stored[self._answered]
        if line.config != config:
            raise RunError(
                f"{self._path}: line {self._answered + 2} holds subnet {line.config.digest}, where this"
                f" search proposes {config.digest} (was it made with another version of pymoo?);"
                " delete it to search anew"
            )
        self._answered += 1
        return line.values

    def append(self, config: SubnetConfig, values: Mapping[str, float]) -> None:
        if self._path is not None:
            append_jsonl(self._path, Evaluated(config=config, values=dict(values)))


def _difference(stored: SearchBegun, now: SearchBegun) -> str:
    """The first thing that two searches do not share, in words; the number of evaluations does not count."""
    before, after = _described(stored), _described(now)
    for name in sorted(before.keys() | after.keys()):
        if name != "config.evaluations" and before.get(name) != after.get(name):
            return f"it has {name} {before.get(name)}, now {after.get(name)}"
    return ""


def _described(begun: SearchBegun) -> dict[str, Any]:
    goals = ", ".join(f"{goal.direction} {goal.name}" for goal in begun.objectives)
    return flat({**to_plain(begun), "objectives": goals})
