"""The precision of each part of a network as further choices: architecture and quantization searched together.

The super-network and its space know nothing of them, as they change no weight. `with_precisions` makes the joint space
that is measured and searched; `architecture` gives back what the super-network is asked for, `precisions_of` what the
quantizer is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from functools import lru_cache
from typing import Literal, get_args

from bnas.errors import ConfigError, SpaceError, did_you_mean
from bnas.graph.costs import LayerCost
from bnas.graph.facts import ChannelGraph, is_inside
from bnas.space.config import SubnetConfig
from bnas.space.shape import shape_of
from bnas.space.space import PRECISION, Choice, SearchSpace

Precision = Literal["int8_tensor", "int8_channel", "fp32"]

# What the values 0, 1, 2 of such a choice stand for: INT8 weights that share one scale, those with a scale for each
# output channel, and no quantization. Activations of both INT8 ones are quantized alike.
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

Precisions = Mapping[str, Precision]
"""By the path of a module, "" the whole network: the precision of what is in it and in none of the others below it."""


def with_precisions(
    space: SearchSpace, graph: ChannelGraph, values: Sequence[Precision] = PRECISIONS
) -> SearchSpace:
    """`space` with one further choice among `values` for each of `parts_of`, named `<part>.precision`.

    The one of all that is in no other part (stem, head) is named `precision`. `largest` is the original network in the
    last of `values`, in the order of `PRECISIONS`.

    Raises:
        ConfigError: fewer than two precisions, or one that there is not.
        SpaceError: the space has such choices already.
    """
    for value in values:
        if value not in PRECISIONS:
            raise ConfigError(f"precision: no precision '{value}'{did_you_mean(value, PRECISIONS)}")
    indices = tuple(sorted({PRECISIONS.index(value) for value in values}))
    if len(indices) < 2:
        raise ConfigError(
            f"precision: two or more to choose from are needed, got {', '.join(values) or 'none'}"
        )
    if has_precisions(space):
        raise SpaceError("precision: the space has choices of precisions already")
    further = (
        Choice(name=choice_of(part), dim=PRECISION, values=indices, targets=(part,))
        for part in parts_of(graph, space)
    )
    return SearchSpace(choices=(*space.choices, *further))


def parts_of(graph: ChannelGraph, space: SearchSpace) -> tuple[str, ...]:
    """The paths of the modules that get a precision of their own, in order of execution.

    They are the residual blocks, the blocks that `space` may skip, and the modules beside a block, as the first of a
    stage, which changes the shape. Where a network has no blocks they are its layers. Nothing without weights or
    products is a part; "" is all that is in no other one.
    """
    blocks = {block.name for block in graph.blocks if block.kind == "residual"}
    blocks |= {name for choice in space.choices if choice.dim == "depth" for name in choice.targets}
    around = {_parent(block) for block in blocks}
    found: dict[str, None] = {}
    for layer in graph.layers:
        if layer.kind.endswith("norm"):
            continue
        module = layer.name if f"{layer.name}.weight" in graph.weight_by_name else _parent(layer.name)
        if not blocks:
            found[module] = None
            continue
        path = module
        while path and path not in blocks and _parent(path) not in around:
            path = _parent(path)
        found[path] = None
    return tuple(found)


def choice_of(part: str) -> str:
    """The name of the choice of a part's precision."""
    return f"{part}.{PRECISION}" if part else PRECISION


def has_precisions(space: SearchSpace) -> bool:
    """Whether it is a joint space."""
    return any(choice.dim == PRECISION for choice in space.choices)


def architecture(config: SubnetConfig) -> SubnetConfig:
    """The config without precisions: the one of the super-network's own space."""
    kept = {name: value for name, value in config.items() if not _is_precision(name)}
    return config if len(kept) == len(config) else SubnetConfig(kept)


def uniform(space: SearchSpace, config: SubnetConfig, precision: Precision) -> SubnetConfig:
    """`config`, of the joint space or of the super-network's own, with the same precision everywhere.

    Raises:
        SpaceError: the space does not offer it.
    """
    own = {choice.name: PRECISIONS.index(precision) for choice in space.choices if choice.dim == PRECISION}
    made = SubnetConfig({**config.values, **own})
    space.validate(made)
    return made


def precisions_of(graph: ChannelGraph, space: SearchSpace, config: SubnetConfig) -> Precisions:
    """The precision of each part of the subnet `config` by the path it has in the extracted module.

    Parts that are left out have none; of a list that blocks have left, those behind move up. Empty where `space` has no
    choices of precisions. Raises SpaceError for a config outside the space.
    """
    shape = shape_of(graph, space, config)
    if not has_precisions(space):
        return {}
    levels = [
        module
        for name, kept in shape.levels.items()
        for level in graph.pyramid_by_name[name].dropped(kept)
        for module in level.modules
    ]
    gone = {*shape.skipped, *levels}
    unlisted = {name for name in shape.skipped if graph.block_by_name[name].listed} | set(levels)
    return {
        _moved_up(choice.targets[0], unlisted): PRECISIONS[config[choice.name]]
        for choice in space.choices
        if choice.dim == PRECISION and not any(is_inside(choice.targets[0], path) for path in gone)
    }


@lru_cache(maxsize=100_000)
def part_of(path: str, parts: tuple[str, ...]) -> str | None:
    """The innermost of `parts` that the module path is in; None: in none."""
    return max((part for part in parts if is_inside(path, part)), key=len, default=None)


def with_precision(
    space: SearchSpace, config: SubnetConfig, layers: Sequence[LayerCost]
) -> tuple[LayerCost, ...]:
    """The layers of the subnet `config`, each with its precision; as they are where `space` has none to choose from."""
    own = {
        choice.targets[0]: PRECISIONS[config[choice.name]]
        for choice in space.choices
        if choice.dim == PRECISION
    }
    parts = tuple(own)
    found = [part_of(layer.name, parts) for layer in layers] if own else [None] * len(layers)
    return tuple(
        layer if part is None else replace(layer, precision=own[part])
        for layer, part in zip(layers, found, strict=True)
    )


def _is_precision(name: str) -> bool:
    return name == PRECISION or name.endswith(f".{PRECISION}")


def _moved_up(path: str, unlisted: Set[str]) -> str:
    """`path` where the modules in `unlisted` have left the lists they were in."""
    names: list[str] = []
    before: list[str] = []
    for name in path.split(".") if path else ():
        parent = ".".join(before)
        behind = [other.rpartition(".")[2] for other in unlisted if _parent(other) == parent]
        names.append(str(int(name) - sum(int(other) < int(name) for other in behind)) if behind else name)
        before.append(name)
    return ".".join(names)


def _parent(path: str) -> str:
    return path.rpartition(".")[0]
