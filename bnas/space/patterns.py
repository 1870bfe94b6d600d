"""What the patterns of the rules name, and an error for each that names nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TypeVar

from bnas.errors import ConfigError
from bnas.graph.facts import Block, ChannelGraph, is_inside
from bnas.space.rules import SpaceRules
from bnas.space.space import DIMS

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What may become one choice.

    name: of the choice.
    dim: its elastic dimension.
    targets: what it is about, as in `Choice`.
    possible: all values it can have, ascending, the last the original network's.
    called: further names, and classes, by which patterns call it.
    why: reasons why it cannot be offered.
    pattern: as in `Choice`.
    """

    name: str
    dim: str
    targets: tuple[str, ...]
    possible: Sequence[int]
    called: frozenset[str] = frozenset()
    why: tuple[str, ...] = ()
    pattern: str = "first"

    @property
    def names(self) -> frozenset[str]:
        return self.called | {self.name}


def matches(patterns: Iterable[str], names: Collection[str]) -> bool:
    """Whether any of `patterns` matches any of `names`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def is_about(pattern: str, candidate: Candidate) -> bool:
    """Whether `pattern`, a key of `values` or `min`, means `candidate`."""
    dim = pattern.rpartition(".")[2]
    if dim in DIMS and dim != "width":
        return candidate.dim == dim and fnmatchcase(candidate.name, pattern)
    return candidate.dim == "width" and matches((pattern,), candidate.names)


def last_about(options: Mapping[str, T], candidate: Candidate) -> tuple[str, T] | None:
    """The last pattern of `options` that means `candidate`, and what it says."""
    found = [(pattern, value) for pattern, value in options.items() if is_about(pattern, candidate)]
    return found[-1] if found else None


def block_names(block: Block) -> frozenset[str]:
    """By what `freeze` calls a block, also where several blocks are one choice."""
    return frozenset((block.name, block.type, f"{block.name}.depth")) - {""}


def frozen(candidates: Iterable[Candidate], rules: SpaceRules) -> list[Candidate]:
    """The candidates, with a reason for those that `rules.freeze` names."""
    return [
        replace(candidate, why=(*candidate.why, "is frozen by space.freeze"))
        if matches(rules.freeze, candidate.names)
        else candidate
        for candidate in candidates
    ]


def check_patterns(graph: ChannelGraph, rules: SpaceRules, candidates: Collection[Candidate]) -> None:
    """Refuse patterns that change nothing; `candidates` are those of every dimension.

    Raises:
        ConfigError: one pattern, by its place in the rules.
    """
    everything = {name for candidate in candidates for name in candidate.names}
    everything |= {name for layer in graph.layers for name in (layer.name, layer.type)} - {""}
    everything |= {name for block in graph.blocks for name in block_names(block)}
    for index, pattern in enumerate(rules.freeze):
        _check(f"space.freeze[{index}]", pattern, everything)
    preserving = {
        name
        for block in graph.blocks
        if block.kind == "preserving"
        for name in (block.name, block.type)
        if name
    }
    for index, pattern in enumerate(rules.skip):
        what = "block that only keeps its input's shape"
        _check(f"space.skip[{index}]", pattern, preserving, what)
    for option in ("values", "min"):
        for pattern in getattr(rules, option):
            where = f"space.{option}.{pattern}"
            meant = [candidate for candidate in candidates if is_about(pattern, candidate)]
            dim = pattern.rpartition(".")[2]
            dim = dim if dim in DIMS else "width"
            if not meant:
                names = {
                    name
                    for c in candidates
                    if c.dim == dim
                    for name in (c.names if dim == "width" else (c.name,))
                }
                raise ConfigError(f"{where}: no {dim} choice has such a name{guess(pattern, names)}")
            _check_elastic(where, meant)
    for index, patterns in enumerate(rules.tie):
        for pattern in patterns:
            where = f"space.tie[{index}]: '{pattern}'"
            tied = [candidate for candidate in candidates if candidate.dim in ("width", "kernel")]
            meant = [candidate for candidate in tied if matches((pattern,), candidate.names)]
            if not meant:
                names = {name for candidate in tied for name in candidate.names}
                raise ConfigError(f"{where} matches no width or kernel{guess(pattern, names)}")
            _check_elastic(where, meant)


def guess(word: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?` for what `word` may stand for, else a few of the known names."""
    if any(is_inside(name, word) for name in known):
        return f"; did you mean '{word}.*'?"
    if close := get_close_matches(word, sorted(known), n=1, cutoff=0.6):
        return f"; did you mean '{close[0]}'?"
    few = sorted(known)[:6]
    return (
        f"; there are: {', '.join(few)}{' …' if len(known) > len(few) else ''}" if few else "; there is none"
    )


def _check(
    where: str, pattern: str, known: Collection[str], what: str = "layer, block, choice or class"
) -> None:
    if not matches((pattern,), known):
        raise ConfigError(f"{where}: no {what} is called '{pattern}'{guess(pattern, known)}")


def _check_elastic(where: str, meant: list[Candidate]) -> None:
    if all(candidate.why for candidate in meant):
        raise ConfigError(f"{where}: {meant[0].name} cannot be chosen, because it {meant[0].why[0]}")
