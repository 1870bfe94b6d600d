"""What is elastic in a model, layer by layer and block by block, in words: for the tree and for build.html."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bnas.graph.facts import Block, ChannelGraph, Group, Label, Layer, Pyramid
from bnas.space import Choice, SearchSpace

SHOWN = 6  # values of a choice that are listed one by one
_IDLE = "did not run on the example"
_BY_RULES = "no other value is offered by the rules in space"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A choice that was taken out of a space because a subnet with another value of it does not run."""

    choice: Choice
    reason: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """A layer in words, or a block: what may be chosen about it, and the reasons where nothing may.

    `groups` are those whose channels it makes, `reads` those that it reads.
    """

    path: str
    type: str
    elastic: bool
    notes: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The layers, without norms and products of activations, in order of execution; the blocks by name.

    `inputs` says what may be chosen about the inputs, `pyramids` about the levels of each pyramid.
    """

    layers: tuple[Row, ...]
    blocks: Mapping[str, Row] = field(default_factory=dict)
    stages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    pyramids: tuple[Row, ...] = ()


def outline(graph: ChannelGraph, space: SearchSpace, refused: Sequence[Refusal] = ()) -> Outline:
    """The facts of `graph` and the choices of `space`, in words."""
    words = _Words(graph, space, refused)
    blocks = {block.name: row for block in graph.blocks if (row := words.block(block))}
    stages: dict[str, tuple[str, ...]] = {}
    for block in graph.blocks:
        if block.name in blocks:
            stages[block.stage] = (*stages.get(block.stage, ()), block.name)
    return Outline(
        layers=(
            *(
                words.layer(layer)
                for layer in graph.layers
                if layer.kind != "matmul" and not layer.kind.endswith("norm")
            ),
            *(Row(path=path, type="", elastic=False, why=(_IDLE,)) for path in graph.idle),
        ),
        blocks=blocks,
        stages=stages,
        inputs=tuple(
            f"{choice.name} {listed(choice.values)}"
            for choice in space.choices
            if choice.dim not in ("width", "depth", "kernel", "levels")
        ),
        pyramids=tuple(words.pyramid(pyramid) for pyramid in graph.pyramids),
    )


def listed(values: Sequence[int]) -> str:
    """The values of a choice, or the first ones, the last one and how many there are."""
    if len(values) <= SHOWN:
        return " ".join(map(str, values))
    return f"{values[0]} {values[1]} {values[2]} … {values[-1]} ({len(values)})"


def groups_in(label: Label) -> tuple[str, ...]:
    """The groups whose channels lie along an axis, each once."""
    return tuple(dict.fromkeys(segment.group for segment in label if segment.group))


class _Words:
    def __init__(self, graph: ChannelGraph, space: SearchSpace, refused: Sequence[Refusal]) -> None:
        self.graph = graph
        self.choices = {(c.dim, target): c for c in space.choices for target in c.targets}
        self.refusals = {(r.choice.dim, t): r.reason for r in refused for t in r.choice.targets}

    def layer(self, layer: Layer) -> Row:
        groups = [self.graph.group_by_name[name] for name in groups_in(layer.writes)]
        notes: list[str] = []
        why: list[str] = []
        elastic = False
        for group in groups:
            choice = self.choices.get(("width", group.name))
            if choice is not None:
                elastic = True
                notes += self._width(layer, group, choice, many=len(groups) > 1)
            else:
                why += [reason for reason in self._fixed(group) if reason not in why]
        if not groups:
            why.append("its outputs are no channels that could be left out")
        kernel = self.choices.get(("kernel", layer.name))
        if kernel is not None:
            notes.append(f"kernel {listed(kernel.values)}")
        elif ("kernel", layer.name) in self.refusals:
            why.append(f"its kernel: {self.refusals['kernel', layer.name]}")
        return Row(
            path=layer.name,
            type=layer.type or layer.kind,
            elastic=elastic or kernel is not None,
            notes=tuple(notes),
            why=tuple(why),
            groups=tuple(group.name for group in groups),
            reads=groups_in(layer.reads),
        )

    def pyramid(self, pyramid: Pyramid) -> Row:
        choice = self.choices.get(("levels", pyramid.name))
        if choice is not None:
            notes = (f"levels {listed(choice.values)}, the last of {' '.join(pyramid.levels)}",)
            return Row(path=pyramid.name, type=pyramid.type, elastic=True, notes=notes)
        refusal = self.refusals.get(("levels", pyramid.name))
        reason = _BY_RULES if refusal is None else f"with fewer levels the model does not run: {refusal}"
        return Row(path=pyramid.name, type=pyramid.type, elastic=False, why=pyramid.why or (reason,))

    def _width(self, layer: Layer, group: Group, choice: Choice, *, many: bool) -> Iterator[str]:
        own, _, part = group.name.partition("[")
        if own != layer.name:
            yield f"width as {group.name}"
            return
        where = f" of channels {part.rstrip(']').replace(':', ' to ')}" if many and part else ""
        yield f"width {listed(choice.values)}{where}"
        if group.channels_per_unit > 1:
            yield f"units of {group.channels_per_unit}"
        others = [target for target in choice.targets if target != group.name]
        if others:
            yield f"one with {', '.join(others[:2])}{' …' if len(others) > 2 else ''}"

    def _fixed(self, group: Group) -> tuple[str, ...]:
        refusal = self.refusals.get(("width", group.name))
        return group.why or ((_BY_RULES if refusal is None else f"another width does not run: {refusal}"),)

    def block(self, block: Block) -> Row | None:
        """None for a block that only keeps its shape and that nobody asked to be skipped."""
        choice = self.choices.get(("depth", block.name))
        refusal = self.refusals.get(("depth", block.name))
        if choice is None and refusal is None and block.kind != "residual":
            return None
        if choice is not None:
            named = choice.name != f"{block.name}.depth"
            return Row(
                path=block.name,
                type=block.type,
                elastic=True,
                notes=("may be skipped" + (f": {choice.name} {listed(choice.values)}" if named else ""),),
            )
        reason = _BY_RULES if refusal is None else f"without it the model does not run: {refusal}"
        return Row(path=block.name, type=block.type, elastic=False, why=(reason,))
