"""Whether a space fits a model: the check of a search_spaces/*.json that was edited by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from bnas.errors import SpaceError
from bnas.graph.facts import ChannelGraph
from bnas.space.patterns import guess
from bnas.space.resolution import RESOLUTION, possible_sizes
from bnas.space.space import DIMS, Choice, SearchSpace

PATTERNS = ("first", "spread")


def check_fits(graph: ChannelGraph, space: SearchSpace) -> None:
    """Refuse a space that does not fit the model, with all its problems.

    Raises:
        SpaceError: one line that names every choice that does not fit.
    """
    problems = [
        f"{choice.name}: {problem}"
        for choice in space.choices
        for problem in (*PROBLEMS.get(choice.dim, _unknown_dim)(graph, choice), *_pattern(choice))
    ]
    problems += [*_twice(space), *_ties(graph, space)]
    if problems:
        raise SpaceError("the search space does not fit the model: " + "; ".join(problems))


def _unknown_dim(graph: ChannelGraph, choice: Choice) -> Iterator[str]:
    yield f"no elastic dimension '{choice.dim}'{guess(choice.dim, DIMS)}"


def _pattern(choice: Choice) -> Iterator[str]:
    if choice.pattern not in (PATTERNS if choice.dim == "depth" else PATTERNS[:1]):
        allowed = "first or spread" if choice.dim == "depth" else "first, as it has no depth"
        yield f"the pattern must be {allowed}, got '{choice.pattern}'"


def _resolution(graph: ChannelGraph, choice: Choice) -> Iterator[str]:
    possible = possible_sizes(graph)
    if choice.name != RESOLUTION:
        yield f"a choice of resolutions is called '{RESOLUTION}'"
    if choice.targets:
        yield f"a resolution has no targets, got {', '.join(choice.targets)}"
    if not possible:
        yield "no sizes of the input were traced; make the space again with space.resolutions"
        return
    yield from _impossible(choice, possible, "size")


def _levels(graph: ChannelGraph, choice: Choice) -> Iterator[str]:
    if not choice.targets:
        yield "there are no targets"
    for name in choice.targets:
        pyramid = graph.pyramid_by_name.get(name)
        if pyramid is None:
            yield f"no pyramid '{name}'{guess(name, graph.pyramid_by_name)}"
        elif pyramid.why:
            yield f"the levels of '{name}' must all stay, because it {pyramid.why[0]}"
        else:
            yield from _impossible(choice, pyramid.possible, "number of levels")


def _depth(graph: ChannelGraph, choice: Choice) -> Iterator[str]:
    for name in choice.targets:
        if name not in graph.block_by_name:
            yield f"no skippable block '{name}'{guess(name, graph.block_by_name)}"
    if choice.values[-1] != len(choice.targets):
        yield f"the largest depth must be {len(choice.targets)}, all its blocks, got {choice.values[-1]}"
    if choice.values[0] < 0:
        yield f"{choice.values[0]} is no depth"


def _kernel(graph: ChannelGraph, choice: Choice) -> Iterator[str]:
    if not choice.targets:
        yield "there are no targets"
    for name in choice.targets:
        layer = graph.layer_by_name.get(name)
        if layer is None:
            yield f"no layer '{name}'{guess(name, graph.layer_by_name)}"
        elif not layer.kernels:
            yield f"the kernel of '{name}' cannot be cropped"
        else:
            yield from _impossible(choice, layer.kernels, "kernel")


def _impossible(choice: Choice, possible: tuple[int, ...], what: str) -> Iterator[str]:
    if choice.values[-1] != possible[-1]:
        yield f"the largest {what} must be {possible[-1]}, got {choice.values[-1]}"
    for value in choice.values[:-1]:
        if value not in possible:
            yield f"{value} is not possible; possible: {', '.join(map(str, possible))}"


def _width(graph: ChannelGraph, choice: Choice) -> Iterator[str]:
    if not choice.targets:
        yield "there are no targets"
    for name in choice.targets:
        group = graph.group_by_name.get(name)
        if group is None:
            yield f"no group '{name}'{guess(name, graph.group_by_name)}"
        elif not group.free:
            yield f"'{name}' is frozen, because it {group.why[0]}"
        elif choice.values[-1] != group.channels:
            yield f"the largest width must be {group.channels}, that of '{name}', got {choice.values[-1]}"
        else:
            unit = group.channels_per_unit
            for value in choice.values:
                if value < 1 or value % unit:
                    yield f"{value} is not a positive multiple of {unit}, the unit of '{name}'"


def _twice(space: SearchSpace) -> Iterator[str]:
    """Targets in two choices of one dimension, or twice in one."""
    for dim in ("levels", "depth", "kernel", "width"):
        owners = [(name, c.name) for c in space.choices if c.dim == dim for name in c.targets]
        for name, times in Counter(name for name, _ in owners).items():
            if times > 1:
                choices = dict.fromkeys(choice for target, choice in owners if target == name)
                yield f"'{name}' occurs {times} times, in {' and '.join(choices)}"


def _ties(graph: ChannelGraph, space: SearchSpace) -> Iterable[str]:
    """Blocks that may be skipped only when the channels before and after have one width."""
    choices = {name: c.name for c in space.choices if c.dim == "width" for name in c.targets}
    problems: dict[str, None] = {}
    for choice in space.choices:
        for name in (
            choice.targets if choice.dim == "depth" and choice.values[0] < len(choice.targets) else ()
        ):
            block = graph.block_by_name.get(name)
            for first, other in block.ties if block else ():
                if choices.get(first) != choices.get(other):
                    problems[
                        f"{choice.name}: without '{name}' the widths of '{first}' and '{other}' must be one "
                        "choice with both as targets"
                    ] = None
    return problems


# The problems of a choice on its own, by its dimension.
PROBLEMS: dict[str, Callable[[ChannelGraph, Choice], Iterator[str]]] = {
    "resolution": _resolution,
    "levels": _levels,
    "depth": _depth,
    "kernel": _kernel,
    "width": _width,
}
