"""From facts to choices: which values are worth offering, by a few rules of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bnas.errors import ConfigError, SpaceError
from bnas.graph.facts import Block, ChannelGraph, is_inside
from bnas.space.patterns import Candidate, block_names, check_patterns, frozen, last_about, matches
from bnas.space.resolution import RESOLUTION, possible_sizes
from bnas.space.rules import SpaceRules
from bnas.space.space import Choice, SearchSpace
from bnas.space.widths import offered_widths, tied, width_candidates


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """How choices of one elastic dimension come about.

    candidates: what may become a choice, with all possible values.
    offered: those values of a candidate that the rules offer; the full one is added.
    """

    candidates: Callable[[ChannelGraph, SpaceRules], Sequence[Candidate]]
    offered: Callable[[Candidate, SpaceRules], Sequence[int]]


def derive_space(graph: ChannelGraph, rules: SpaceRules | None = None) -> SearchSpace:
    """The choices that `rules` leave open in `graph`, dimension by dimension in the order of `DIMS`.

    Raises:
        ConfigError: a rule that changes nothing (its pattern matches nothing), or asks for the impossible.
        SpaceError: nothing is left to choose; the text says why.
    """
    rules = rules or SpaceRules()
    candidates = {dim: frozen(parts.candidates(graph, rules), rules) for dim, parts in DIMENSIONS.items()}
    check_patterns(graph, rules, [candidate for found in candidates.values() for candidate in found])
    choices = [
        choice
        for dim, found in candidates.items()
        if dim in rules.dims
        for candidate in (tied(found, rules) if dim in ("width", "kernel") else found)
        if (choice := _choice(candidate, rules))
    ]
    if not choices:
        reasons = {reason: None for dim in rules.dims for c in candidates[dim] for reason in c.why}
        raise SpaceError(
            "nothing is elastic in this model: " + ("; ".join(reasons) or "see the rules in space")
        )
    return SearchSpace(choices=tuple(choices))


def _choice(candidate: Candidate, rules: SpaceRules) -> Choice | None:
    """The candidate with the values that the rules offer; None where that is the full one alone."""
    if candidate.why:
        return None
    possible = candidate.possible
    if asked := last_about(rules.values, candidate):
        pattern, values = asked
        for value in values:
            if value not in possible:
                raise ConfigError(
                    f"space.values.{pattern}: {candidate.name} cannot be {value}; possible: {_shown(possible)}"
                )
    else:
        values = tuple(DIMENSIONS[candidate.dim].offered(candidate, rules))
    least = last_about(rules.min, candidate)
    offered = {value for value in values if least is None or value >= least[1]} | {possible[-1]}
    if len(offered) == 1:
        return None
    return Choice(
        name=candidate.name,
        dim=candidate.dim,
        values=tuple(sorted(offered)),
        targets=candidate.targets,
        pattern=candidate.pattern,
    )


def _shown(values: Sequence[int]) -> str:
    if len(values) <= 8:
        return ", ".join(map(str, values))
    return f"{values[0]}, {values[1]}, {values[2]} … {values[-1]}"


def _resolutions(graph: ChannelGraph, rules: SpaceRules) -> list[Candidate]:
    possible = possible_sizes(graph)
    asked = "resolution" in rules.dims
    if asked and not possible:
        raise ConfigError("space.resolutions: no input size was traced; give some, as in [160, 192, 224]")
    for size in rules.resolutions if asked else ():
        if size not in possible:
            raise ConfigError(
                f"space.resolutions: {size} is not possible; possible: {_shown(possible) or 'none'}"
            )
    return [Candidate(name=RESOLUTION, dim="resolution", targets=(), possible=possible)] if possible else []


def _offered_resolutions(candidate: Candidate, rules: SpaceRules) -> Sequence[int]:
    return rules.resolutions or candidate.possible


def _levels(graph: ChannelGraph, rules: SpaceRules) -> list[Candidate]:
    return [
        Candidate(
            name=f"{pyramid.name}.levels",
            dim="levels",
            targets=(pyramid.name,),
            possible=pyramid.possible,
            called=frozenset((pyramid.name, pyramid.type)) - {""},
            why=pyramid.why,
        )
        for pyramid in graph.pyramids
    ]


def _offered_levels(candidate: Candidate, rules: SpaceRules) -> Sequence[int]:
    return candidate.possible


def _depths(graph: ChannelGraph, rules: SpaceRules) -> list[Candidate]:
    candidates = []
    for stage, blocks in graph.stages.items():
        candidates += _stage(stage, [graph.block_by_name[name] for name in blocks], rules)
    preserving: dict[str, list[Block]] = {}
    for block in _preserving(graph, rules):
        preserving.setdefault(block.stage, []).append(block)
    for stage, kept in preserving.items():
        candidates += _stage(f"{stage}.preserving" if stage in graph.stages else stage, kept, rules)
    return candidates


def _preserving(graph: ChannelGraph, rules: SpaceRules) -> list[Block]:
    """The blocks that `rules.skip` names; of one inside another the outer."""
    asked = [
        block
        for block in graph.blocks
        if block.kind == "preserving"
        and matches(rules.skip, (block.name, block.type))
        and not _is_frozen(block, rules)
    ]
    return [
        block
        for block in asked
        if not any(other is not block and is_inside(block.name, other.name) for other in asked)
    ]


def _stage(stage: str, blocks: list[Block], rules: SpaceRules) -> list[Candidate]:
    if rules.depth_mode == "free":
        return [
            Candidate(
                name=f"{block.name}.depth",
                dim="depth",
                targets=(block.name,),
                possible=(0, 1),
                called=frozenset((block.name, block.type)) - {""},
            )
            for block in blocks[max(rules.depth_min, int(any(block.listed for block in blocks))) :]
        ]
    if rules.depth_mode == "spread":
        blocks = [block for block in blocks if not _is_frozen(block, rules)] or blocks
    kept = [position + 1 for position, block in enumerate(blocks) if _is_frozen(block, rules)]
    listed = any(block.listed for block in blocks)  # code that goes through a list may look at its first
    least = max([int(listed), *kept])  # frozen blocks are among the first
    candidate = Candidate(
        name=f"{stage}.depth",
        dim="depth",
        targets=tuple(block.name for block in blocks),
        possible=tuple(range(least, len(blocks) + 1)),
        why=("is frozen by space.freeze",) if least == len(blocks) else (),  # block by block
        pattern=rules.depth_mode,
    )
    return [candidate]


def _is_frozen(block: Block, rules: SpaceRules) -> bool:
    return matches(rules.freeze, block_names(block))


def _offered_depths(candidate: Candidate, rules: SpaceRules) -> Sequence[int]:
    least = 0 if rules.depth_mode == "free" else rules.depth_min
    return [value for value in candidate.possible if value >= least]


def _kernels(graph: ChannelGraph, rules: SpaceRules) -> list[Candidate]:
    return [
        Candidate(
            name=f"{layer.name}.kernel",
            dim="kernel",
            targets=(layer.name,),
            possible=layer.kernels,
            called=frozenset((layer.name, layer.type)) - {""},
        )
        for layer in graph.layers
        if len(layer.kernels) > 1
    ]


def _offered_kernels(candidate: Candidate, rules: SpaceRules) -> Sequence[int]:
    return [size for size in candidate.possible if size in rules.kernel_values or not rules.kernel_values]


def _widths(graph: ChannelGraph, rules: SpaceRules) -> list[Candidate]:
    skippable = _preserving(graph, rules) if "depth" in rules.dims else []
    return width_candidates(graph, [tie for block in skippable for tie in block.ties])


# The elastic dimensions; in this order a space lists their choices.
DIMENSIONS: dict[str, Dimension] = {
    "resolution": Dimension(candidates=_resolutions, offered=_offered_resolutions),
    "levels": Dimension(candidates=_levels, offered=_offered_levels),
    "depth": Dimension(candidates=_depths, offered=_offered_depths),
    "kernel": Dimension(candidates=_kernels, offered=_offered_kernels),
    "width": Dimension(candidates=_widths, offered=offered_widths),
}
