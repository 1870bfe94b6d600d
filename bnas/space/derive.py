"""From facts to choices: which widths and depths are worth offering, by a few rules of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import floor, lcm

from bnas.errors import ConfigError, SpaceError, did_you_mean
from bnas.graph.facts import ChannelGraph, Group
from bnas.space.config import SubnetConfig
from bnas.space.space import Choice, SearchSpace

DIMS = ("depth", "width")


@dataclass(frozen=True, kw_only=True)
class SpaceRules:
    """What may be elastic.

    `width_ratios` of a group's channels are offered, rounded to multiples of `width_multiple` and at least
    `width_min` channels; the full width always is. `freeze` holds patterns of layer or block names (as in
    `layer1.*`) that stay as they are.
    """

    dims: tuple[str, ...] = DIMS
    width_ratios: tuple[float, ...] = (0.5, 0.75, 1.0)
    width_multiple: int = 8
    width_min: int = 8
    depth_min: int = 0
    freeze: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for dim in self.dims:
            if dim not in DIMS:
                raise ConfigError(f"space.dims: no elastic dimension '{dim}'{did_you_mean(dim, DIMS)}")
        for ratio in self.width_ratios:
            if not 0 < ratio <= 1:
                raise ConfigError(f"space.width_ratios: expected numbers above 0 and up to 1, got {ratio}")
        for name in ("width_multiple", "width_min"):
            if getattr(self, name) < 1:
                raise ConfigError(f"space.{name}: expected at least 1, got {getattr(self, name)}")
        if self.depth_min < 0:
            raise ConfigError(f"space.depth_min: expected at least 0, got {self.depth_min}")


def derive_space(graph: ChannelGraph, rules: SpaceRules | None = None) -> SearchSpace:
    """The choices that `rules` leave open in `graph`: depths by stage, then widths by group.

    Raises:
        SpaceError: nothing is left to choose; the text says why.
    """
    rules = rules or SpaceRules()
    choices: list[Choice] = []
    if "depth" in rules.dims:
        choices += [
            choice for stage, blocks in graph.stages.items() if (choice := _depth(stage, blocks, rules))
        ]
    if "width" in rules.dims:
        choices += [choice for group in graph.groups if (choice := _width(group, rules))]
    if not choices:
        reasons = sorted({reason for group in graph.groups for reason in group.why})
        raise SpaceError(
            "nothing is elastic in this model: " + ("; ".join(reasons[:3]) or "see the rules in space")
        )
    return SearchSpace(choices=tuple(choices))


def _depth(stage: str, blocks: tuple[str, ...], rules: SpaceRules) -> Choice | None:
    """First `d` blocks kept (as in OFA, Cai et al. 2020); frozen blocks must come first to be kept so."""
    frozen = [position for position, block in enumerate(blocks) if _frozen(block, rules)]
    least = max([rules.depth_min, *(position + 1 for position in frozen)])
    if least >= len(blocks):
        return None
    return Choice(
        name=f"{stage}.depth", dim="depth", values=tuple(range(least, len(blocks) + 1)), targets=blocks
    )


def _width(group: Group, rules: SpaceRules) -> Choice | None:
    if not group.free or _frozen(group.name, rules):
        return None
    step = lcm(rules.width_multiple, group.channels_per_unit)
    widths = {group.channels}
    for ratio in rules.width_ratios:
        width = max(floor(ratio * group.channels / step + 0.5), 1) * step
        while width < rules.width_min:
            width += step
        if width < group.channels:
            widths.add(width)
    if len(widths) == 1:
        return None
    return Choice(
        name=f"{group.name}.width", dim="width", values=tuple(sorted(widths)), targets=(group.name,)
    )


def _frozen(name: str, rules: SpaceRules) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in rules.freeze)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a config means for the model: active units by group, and the blocks that are skipped."""

    widths: dict[str, int]
    skipped: frozenset[str]


def shape_of(graph: ChannelGraph, space: SearchSpace, config: SubnetConfig) -> Shape:
    """Translate a valid config into units and skipped blocks."""
    space.validate(config)
    widths: dict[str, int] = {}
    skipped: set[str] = set()
    for choice in space.choices:
        value = config[choice.name]
        if choice.dim == "depth":
            skipped.update(choice.targets[value:])
        else:
            for name in choice.targets:
                widths[name] = value // graph.group_by_name[name].channels_per_unit
    return Shape(widths=widths, skipped=frozenset(skipped))


def check_fits(graph: ChannelGraph, space: SearchSpace) -> None:
    """Refuse a space (an edited search_spaces/*.json) that does not fit the model, with all its problems.

    Raises:
        SpaceError: one line that names every choice that does not fit.
    """
    problems: list[str] = []
    blocks = {block.name for block in graph.blocks}
    for choice in space.choices:
        if choice.dim not in DIMS:
            problems.append(
                f"{choice.name}: no elastic dimension '{choice.dim}'{did_you_mean(choice.dim, DIMS)}"
            )
        elif choice.dim == "depth":
            problems += [
                f"{choice.name}: no skippable block '{b}'" for b in choice.targets if b not in blocks
            ]
            if choice.values[-1] != len(choice.targets) or choice.values[0] < 0:
                problems.append(
                    f"{choice.name}: the largest depth must be {len(choice.targets)}, all its blocks"
                )
        else:
            problems += _width_problems(graph, choice)
    if problems:
        raise SpaceError("the search space does not fit the model: " + "; ".join(problems))


def _width_problems(graph: ChannelGraph, choice: Choice) -> list[str]:
    problems = []
    for name in choice.targets:
        group = graph.group_by_name.get(name)
        if group is None:
            problems.append(f"{choice.name}: no group '{name}'{did_you_mean(name, graph.group_by_name)}")
        elif not group.free:
            problems.append(f"{choice.name}: frozen, because it {group.why[0]}")
        elif choice.values[-1] != group.channels:
            problems.append(
                f"{choice.name}: the largest width must be {group.channels}, got {choice.values[-1]}"
            )
        else:
            problems += [
                f"{choice.name}: {value} is not a positive multiple of {group.channels_per_unit}"
                for value in choice.values
                if value < 1 or value % group.channels_per_unit
            ]
    return problems
