"""`bnas show front [NAME<=NUMBER …] [top=N]`: the members of the newest front, or the best under some limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bnas.commands.decision import Decision
from bnas.commands.invocation import Invocation
from bnas.commands.project import Project
from bnas.errors import ConfigError, SpaceError, did_you_mean
from bnas.files import read_json
from bnas.report import Verified
from bnas.search import Candidate, Constraint, Objective, parse_constraints
from bnas.space import PRECISION, PRECISIONS, SearchSpace, SubnetConfig, canonical
from bnas.train.task import TASKS

_LIMIT = re.compile(r"\s*([\w@.-]+?)\s*([<>]=?)\s*(\S+)\s*")
_UNITS = {"macs": (1e6, "MMACs"), "parameters": (1e6, "M parameters"), "size_bytes": (1e6, "MB"),
          "memory_bytes": (1e6, "MB of memory")}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked of a front: the `top` members that keep all `limits`; 0: all of them."""

    limits: tuple[Constraint, ...] = ()
    top: int = 0


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A member of the front, as it was found, and as it was measured, if it was."""

    candidate: Candidate
    verified: Verified | None
    names: tuple[str, ...]

    @property
    def values(self) -> dict[str, float]:
        """By name: measured, where it was."""
        return {**self.candidate.values, **(self.verified.measured if self.verified else {})}


def asked(invocation: Invocation) -> tuple[Query, Invocation]:
    """What the words of `show front …` ask for, and the invocation without them.

    `latency_ms<=5` looks like an option to who reads the command line, as it has a `=`.

    Raises:
        ConfigError: a word that is neither a limit nor `top=N`.
    """
    limits: dict[str, str] = {}
    rest, top = [], 0
    for word in (*invocation.arguments[1:], *invocation.overrides):
        key, equals, value = word.partition("=")
        if match := _LIMIT.fullmatch(word):
            limits[match[1]] = f"{match[2][0]}= {match[3]}"
        elif key == "top" and equals:
            if not value.isdecimal() or int(value) < 1:
                raise ConfigError(
                    f"show front: top: expected a number of members, as in top=3, got '{value}'"
                )
            top = int(value)
        elif word in invocation.overrides:
            rest.append(word)
        else:
            raise ConfigError(
                f"show front: expected limits and a count, as in: show front 'latency_ms<=5' 'macs<=3e8' top=3; "
                f"got '{word}'"
            )
    try:
        query = Query(limits=parse_constraints(limits), top=top)
    except ConfigError as error:
        raise ConfigError(f"show front: {str(error).removeprefix('constraints.')}") from error
    return query, replace(invocation, arguments=invocation.arguments[:1], overrides=tuple(rest))


def show_front(project: Project, query: Query) -> None:
    """Print the members, best metric first.

    Raises:
        RunError: the run has not been searched yet.
        ConfigError: a limit on something that the front does not tell.
        SpaceError: no member keeps the limits; says the best there is.
    """
    folder, place = project.folder, ("search", project.hw_folder)
    if not folder.done(f"search@{project.hw_folder}"):
        folder.require("search")
    decision = read_json(folder.path(*place, "front.json"), Decision)
    rows = under(_rows(decision), query, str(folder.path(*place, "front.json")))
    metric = TASKS[project.config.train.task].metric_name
    Console().print(_table(project, decision.front.objectives, metric, rows))


def _rows(decision: Decision) -> tuple[_Row, ...]:
    verified = {own.config: own for own in decision.members}
    return tuple(
        _Row(
            candidate=candidate,
            verified=verified.get(candidate.config),
            names=tuple(name for name, config in decision.chosen.items() if config == candidate.config),
        )
        for candidate in decision.front.members
    )


def under(rows: Sequence[_Row], query: Query, where: str) -> tuple[_Row, ...]:
    """The members that keep all limits, at most `query.top`, in their order; what was measured counts as measured."""
    known = set().union(*(row.values for row in rows))
    for limit in query.limits:
        if limit.name not in known:
            raise ConfigError(
                f"show front: {where} has no value '{limit.name}'{did_you_mean(limit.name, known)}"
            )
    kept = tuple(row for row in rows if not any(limit.violation(row.values) for limit in query.limits))
    if not kept:
        best = []
        for limit in query.limits:
            found = [row.values[limit.name] for row in rows if limit.name in row.values]
            best.append(f"{limit.name}: {(min if limit.bound == '<=' else max)(found):.6g}")
        together = " (each by itself)" if len(best) > 1 else ""
        raise SpaceError(
            f"show front: no member has {' and '.join(map(str, query.limits))}; the best there is{together}: "
            f"{', '.join(best)}"
        )
    return kept[: query.top or None]


def _table(project: Project, objectives: Sequence[Objective], metric: str, rows: Sequence[_Row]) -> Table:
    further = [goal.name for goal in objectives if goal.name not in (metric, "latency_ms", "macs")]
    table = Table(title=Text(f"{project.folder}: the front on {project.hw_folder}"))
    for column in ("", f"{metric} searched", "INT8", "latency_ms predicted", "measured", "MMACs"):
        table.add_column(column, justify="left" if not column else "right")
    for name in further:
        table.add_column(_headed(name), justify="right")
    table.add_column("subnet", overflow="fold")
    same = canonical(project.graph, project.space)
    for row in rows:
        config = row.candidate.config
        words = summary(project.space, config, idle_choices(same, project.space, config))
        own, values = row.verified, row.candidate.values
        told = [
            f"{values[metric]:.2f}",
            f"{own.metric_int8_percent:.2f}" if own else "–",
            f"{own.predicted_latency_ms if own else values['latency_ms']:.4g}",
            f"{own.latency_ms:.4g}" if own else "–",
            f"{values['macs'] / 1e6:.4g}",
            *(f"{row.values[name] / _UNITS.get(name, (1, ''))[0]:.4g}" for name in further),
        ]
        table.add_row(Text(" ".join(row.names)), *told, Text(words))
    return table


def _headed(name: str) -> str:
    return _UNITS.get(name, (1, name))[1]


def idle_choices(
    same: Callable[[SubnetConfig], SubnetConfig], space: SearchSpace, config: SubnetConfig
) -> set[str]:
    """The choices, by name, that change nothing of this subnet; `same` gives the canonical config."""
    found = set()
    for choice in space.choices:
        other = next((value for value in choice.values if value != config[choice.name]), None)
        if other is not None and same(SubnetConfig({**config.values, choice.name: other})) == same(config):
            found.add(choice.name)
    return found


def summary(space: SearchSpace, config: SubnetConfig, idle: Collection[str] = ()) -> str:
    """A subnet in few words: depths as they are, of widths the mean share, of the rest how often each value occurs.

    `idle`: choices that do not count, but for depths.
    """
    told = []
    for dim in space.dims:
        own = [
            choice
            for choice in space.choices
            if choice.dim == dim and (dim == "depth" or choice.name not in idle)
        ]
        if not own:
            continue
        values = [config[choice.name] for choice in own]
        if dim == PRECISION:
            told.append(_counted([PRECISIONS[value] for value in values]))
            continue
        if dim == "width":
            share = sum(config[choice.name] / choice.values[-1] for choice in own) / len(own)
            told.append(f"width {100 * share:.0f} %")
        elif dim == "depth" and any(len(choice.targets) > 1 for choice in own):
            told.append(f"depth {' '.join(map(str, values))}")
        elif dim == "depth":  # each block has a choice of its own
            told.append(f"{sum(values)} of {len(values)} blocks")
        elif len(values) == 1:
            told.append(f"{dim} {values[0]}")
        else:
            told.append(f"{dim} {_counted(values)}")
    return " · ".join(told)


def _counted(values: Sequence[int] | Sequence[str]) -> str:
    return " ".join(f"{values.count(value)}×{value}" for value in dict.fromkeys(sorted(values)))
