"""The widths that are worth offering, and which groups and layers share one choice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import floor, lcm

from bnas.errors import ConfigError
from bnas.graph.facts import ChannelGraph, Group
from bnas.space.patterns import Candidate, last_about, matches
from bnas.space.rules import SpaceRules


def width_candidates(graph: ChannelGraph, ties: Iterable[tuple[str, str]]) -> list[Candidate]:
    """One candidate for each group, or for all groups that `ties` make one."""
    called: dict[str, set[str]] = defaultdict(set)
    for layer in graph.layers:
        for segment in layer.writes:
            if segment.group is not None:
                called[segment.group] |= {layer.name, layer.type} - {""}
    candidates = []
    for names in _united([group.name for group in graph.groups], ties):
        groups = [graph.group_by_name[name] for name in names]
        own = {name for group in groups for name in (group.name, f"{group.name}.width", group.type) if name}
        candidates.append(
            Candidate(
                name=f"{names[0]}.width",
                dim="width",
                targets=tuple(names),
                possible=_possible(groups),
                called=frozenset(own.union(*(called[name] for name in names))),
                why=tuple(dict.fromkeys(reason for group in groups for reason in group.why)),
            )
        )
    return candidates


def tied(candidates: Sequence[Candidate], rules: SpaceRules) -> list[Candidate]:
    """The candidates with those made one that `rules.tie` names; what cannot be chosen is no part of a tie.

    Raises:
        ConfigError: they do not allow the same values.
    """
    pairs: list[tuple[str, str]] = []
    by_name = {candidate.name: candidate for candidate in candidates}
    for index, patterns in enumerate(rules.tie):
        meant = [c for c in candidates if not c.why and matches(patterns, c.names)]
        for first, other in zip(meant[:1] * len(meant), meant[1:], strict=False):
            alike = (
                first.possible[-1] == other.possible[-1]
                if first.dim == "width"
                else first.possible == other.possible
            )
            if not alike:
                raise ConfigError(
                    f"space.tie[{index}]: {first.name} ({_values(first)}) and {other.name} ({_values(other)}) "
                    "cannot be one choice; tie what has the same size"
                )
            pairs.append((first.name, other.name))
    return [_one([by_name[name] for name in names]) for names in _united(list(by_name), pairs)]


def offered_widths(candidate: Candidate, rules: SpaceRules) -> list[int]:
    """Widths below the full one: `width_ratios` of it or steps of `width_step`, and no fewer than the least."""
    unit, full = candidate.possible[0], candidate.possible[-1]
    least = last_about(rules.min, candidate)
    lowest = rules.width_min if least is None else least[1]
    step = _step(unit, full, rules.width_multiple)
    if rules.width_step is not None:
        stride = -(-rules.width_step // step) * step
        return [width for width in range(stride, full, stride) if width >= lowest]
    widths = {max(floor(ratio * full / step + 0.5), 1) * step for ratio in rules.width_ratios if ratio < 1}
    lowest = -(-lowest // step) * step
    return sorted({max(width, lowest) for width in widths if max(width, lowest) < full})


def _step(unit: int, full: int, multiple: int) -> int:
    """What widths are multiples of: `multiple` and whole units.

    A multiple of more than half of the channels leaves nothing to choose: it is halved until it no longer is.
    """
    while lcm(unit, multiple) * 2 > full and multiple > 1:
        multiple //= 2
    return lcm(unit, multiple)


def _possible(groups: Sequence[Group]) -> Sequence[int]:
    """All widths that are whole units of each group, up to the full one."""
    unit = lcm(*(group.channels_per_unit for group in groups))
    full = groups[0].channels
    if any(group.channels != full for group in groups) or full % unit:
        return (full,)
    return range(unit, full + 1, unit)


def _one(candidates: Sequence[Candidate]) -> Candidate:
    first = candidates[0]
    if len(candidates) == 1:
        return first
    possible = first.possible
    if first.dim == "width":
        unit = lcm(*(candidate.possible[0] for candidate in candidates))
        possible = range(unit, possible[-1] + 1, unit)
    return replace(
        first,
        targets=tuple(target for candidate in candidates for target in candidate.targets),
        possible=possible,
        called=frozenset().union(*(candidate.names for candidate in candidates)),
    )


def _values(candidate: Candidate) -> str:
    if candidate.dim == "width":
        return f"{candidate.possible[-1]} channels"
    return " ".join(map(str, candidate.possible))


def _united(names: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """`names` in sets that `pairs` connect, each set and its names in the order of `names`."""
    root = {name: name for name in names}

    def find(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    for first, other in pairs:
        root[find(other)] = find(first)
    united: dict[str, list[str]] = defaultdict(list)
    for name in names:
        united[find(name)].append(name)
    return list(united.values())
