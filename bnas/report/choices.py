"""The choices of a space as a page groups them: by the stages of the network, in its order."""

from __future__ import annotations

from collections.abc import Sequence

from bnas.graph.facts import is_inside
from bnas.space import PRECISION, PRECISIONS, Choice
from bnas.space.resolution import RESOLUTION
from bnas.space.shape import skipped_blocks

INPUT = "input"  # the stage of the images' resolution
WHOLE = "network"  # the stage of a choice about no part of it


def stages_of(choices: Sequence[Choice]) -> tuple[str, ...]:
    """The stage that each choice belongs to.

    A depth that counts several blocks names one; what lies in it, or in one of its blocks, belongs to it. The others
    are grouped by the first part of their path in which they differ.
    """
    named = {
        _path(choice): choice.targets
        for choice in choices
        if choice.dim == "depth" and choice.targets != (_path(choice),)
    }
    paths = [_path(choice).split(".") for choice in choices if _path(choice)]
    shared = _shared(paths) if len(paths) > 1 else 0
    return tuple(_stage(choice, named, shared) for choice in choices)


def ordered_stages(choices: Sequence[Choice]) -> tuple[str, ...]:
    """The stages in the order of the network, as far as widths, whose order it is, tell."""
    first: dict[str, tuple[bool, int]] = {}
    for late in (False, True):
        for place, (choice, stage) in enumerate(zip(choices, stages_of(choices), strict=True)):
            if (choice.dim in ("depth", PRECISION)) == late:
                first.setdefault(stage, (late, place))
    return tuple(sorted(first, key=lambda stage: (stage != INPUT, first[stage])))


def label_of(choice: Choice, stage: str) -> str:
    """A choice's name within its stage: `0.conv1` of `layer1.0.conv1.width`, in `layer1`."""
    path = _path(choice)
    if path != stage and is_inside(path, stage):
        return path[len(stage) + 1 :]
    return path or choice.name


def value_words(choice: Choice) -> tuple[str, ...]:
    """The values of a choice as a reader calls them; of precisions what shares a scale, where it is INT8."""
    if choice.dim == PRECISION:
        words = {"int8_tensor": "per tensor", "int8_channel": "per channel", "fp32": "FP32"}
        return tuple(words[PRECISIONS[value]] for value in choice.values)
    return tuple(map(str, choice.values))


def shares_of(choice: Choice) -> tuple[float, ...]:
    """How much of the original each value keeps, from 0 to 1; of precisions their place between the ends."""
    if choice.dim == PRECISION:
        return tuple(place / max(len(choice.values) - 1, 1) for place in range(len(choice.values)))
    return tuple(value / choice.values[-1] if choice.values[-1] else 0.0 for value in choice.values)


def without_effect(choices: Sequence[Choice]) -> dict[int, tuple[tuple[int, ...], ...]]:
    """For each depth, by its place, and each of its values: the places of choices inside of the blocks left out."""
    found = {}
    for place, depth in enumerate(choices):
        if depth.dim != "depth":
            continue
        found[place] = tuple(
            tuple(
                other
                for other, choice in enumerate(choices)
                if choice.dim != "depth"
                and choice.targets
                and all(any(is_inside(own, block) for block in blocks) for own in choice.targets)
            )
            for blocks in (skipped_blocks(depth, value) for value in depth.values)
        )
    return found


def _shared(paths: Sequence[Sequence[str]]) -> int:
    """How many parts all paths begin with, and go on after."""
    parts = list(zip(*paths, strict=False))
    return next((place for place, own in enumerate(parts) if len(set(own)) > 1), len(parts) - 1)


def _path(choice: Choice) -> str:
    """The part of the network that a choice is about: its name without the last word."""
    return choice.name.rpartition(".")[0]


def _stage(choice: Choice, named: dict[str, tuple[str, ...]], shared: int) -> str:
    path = _path(choice)
    if choice.dim == RESOLUTION:
        return INPUT
    inside = [
        stage
        for stage, blocks in named.items()
        if is_inside(path, stage) or any(is_inside(path, block) for block in blocks)
    ]
    if inside:
        return max(inside, key=len) or WHOLE
    return ".".join(path.split(".")[: shared + 1]) or WHOLE
