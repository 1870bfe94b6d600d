"""Find the blocks that may be skipped: modules whose input can stand in for their output.

A residual block computes y = x + f(x) (He et al. 2016), perhaps with activations after the sum, or on a
rearranged x that is put back (windows of tokens). Without it y is x, which has the same shape and the same
channels for every width, so nothing else has to change. A preserving block only keeps the shape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bnas.graph.channels import Parts
from bnas.graph.facts import Block, Group, Label, is_inside
from bnas.graph.state import Trace, Value

_Labels = Callable[[Parts], Label]


@dataclass
class _Found:
    path: str
    type: str
    entered_with: int
    left_with: int
    residual: bool
    listed: bool
    pairs: list[tuple[Parts, Parts]] = field(default_factory=list)


class BlockFinder:
    """Watches modules begin and end; knows afterwards which are blocks and which blocks are neighbours."""

    def __init__(self) -> None:
        self._open: list[tuple[str, tuple[int, ...] | None, Value | None, tuple[Parts, ...]]] = []
        self._with_more: set[str] = set()  # modules that take more than their input
        self._found: dict[str, _Found] = {}
        self._calls: Counter[str] = Counter()

    def enter(self, path: str, x: Tensor | None, state: Trace, *, alone: bool = True) -> None:
        self._calls[path] += 1
        if not alone:
            self._with_more.add(path)
        if x is None:
            self._open.append((path, None, None, ()))
        else:
            self._open.append((path, tuple(x.shape), state.value(x), state.labels(x)))

    def leave(self, path: str, module: nn.Module, y: Tensor | None, state: Trace) -> None:
        opened, shape, value, before = self._open.pop()
        assert opened == path
        if not path or y is None or value is None or shape != tuple(y.shape) or len(shape) < 2:
            return
        if not any(True for _ in module.parameters()):
            return
        left = state.value(y)
        listed = path in self._with_more
        if left == value or (listed and not _in_list(state.model, path)):
            return
        residual = any(_is_same(value, own, shape) for own in state.sums(y))
        found = self._found.setdefault(
            path, _Found(path, type(module).__name__, value.token, left.token, residual, listed)
        )
        found.residual &= residual
        found.pairs += zip(before, state.labels(y), strict=True)
        if self._calls[path] == 1:
            # What a block leaves may only be rearranged before the next block takes it in.
            found.entered_with, found.left_with = value.token, left.token

    def blocks(self, label: _Labels, groups: Mapping[str, Group]) -> tuple[Block, ...]:
        """The innermost residual blocks, then the preserving ones, each kind in order of execution."""
        residual, preserving = [], []
        for found in self._found.values():
            ties = _ties([(label(a), label(b)) for a, b in found.pairs], groups)
            if ties is None:
                continue
            if found.residual and not ties and self._calls[found.path] == 1:
                residual.append(found)
            else:
                preserving.append((found, ties))
        innermost = [
            block
            for block in residual
            if not any(other is not block and is_inside(other.path, block.path) for other in residual)
        ]
        tied = {found.path: ties for found, ties in preserving}
        return (
            *_staged(innermost, "residual", {}),
            *_staged([found for found, _ in preserving if _has_layers(found)], "preserving", tied),
        )


def _has_layers(found: _Found) -> bool:
    """Norms and other layers that hand their very channels on are not worth skipping."""
    return found.residual or any(a != b for a, b in found.pairs)


def _is_same(entered: Value, added: Value, shape: tuple[int, ...]) -> bool:
    """Whether what was added is the value that entered, rearranged and put back in its place."""
    if added.token != entered.token:
        return False
    if added.moves == entered.moves:
        return True
    if added.moves[: len(entered.moves)] != entered.moves:
        return False
    places = torch.arange(torch.Size(shape).numel()).reshape(shape)
    moved = places
    with torch._C.DisableTorchFunction():
        for move in added.moves[len(entered.moves) :]:
            moved = move(moved)
        return bool(moved.shape == places.shape and torch.equal(moved, places))


def _ties(
    pairs: list[tuple[Label, Label]], groups: Mapping[str, Group]
) -> tuple[tuple[str, str], ...] | None:
    """Which groups must have one width so that the input can stand in for the output; None: no width will do."""
    ties: list[tuple[str, str]] = []
    for before, after in pairs:
        if before == after:
            continue
        if len(before) != len(after):
            return None
        for a, b in zip(before, after, strict=True):
            if (a.units, a.repeat) != (b.units, b.repeat):
                return None
            if a.group == b.group:
                continue
            frozen = [name is None or not groups[name].free for name in (a.group, b.group)]
            if any(frozen) and not all(frozen):
                return None
            if a.group and b.group and not any(frozen) and (a.group, b.group) not in ties:
                ties.append((a.group, b.group))
    return tuple(ties)


def _staged(found: list[_Found], kind: str, ties: Mapping[str, tuple[tuple[str, str], ...]]) -> list[Block]:
    """Blocks with their stages: runs of neighbours, named after their parent where they are its only run."""
    runs: list[list[_Found]] = []
    for block in found:
        run = next(
            (
                run
                for run in runs
                if run[-1].left_with == block.entered_with and _parent(run[-1].path) == _parent(block.path)
            ),
            None,
        )
        if run is None and kind == "residual" and runs and runs[-1][-1].left_with == block.entered_with:
            run = runs[-1]
        if run is None:
            runs.append([block])
        else:
            run.append(block)
    blocks = []
    for run, stage in zip(runs, _stage_names(runs), strict=True):
        for block in run:
            blocks.append(
                Block(
                    name=block.path,
                    stage=stage,
                    kind=kind,
                    type=block.type,
                    ties=ties.get(block.path, ()),
                    listed=block.listed,
                )
            )
    return blocks


def _stage_names(runs: list[list[_Found]]) -> list[str]:
    """The parent's path where all its blocks are one run, else that of the first block; no name twice."""
    parents = Counter(_parent(run[0].path) for run in runs)
    names = []
    for run in runs:
        parent = _parent(run[0].path)
        whole = parent and parents[parent] == 1 and all(_parent(block.path) == parent for block in run)
        names.append(parent if whole else run[0].path)
    of_parts = {name for run, name in zip(runs, names, strict=True) if name != run[0].path}
    return [
        f"{name}.whole" if name == run[0].path and name in of_parts else name
        for run, name in zip(runs, names, strict=True)
    ]


def _in_list(model: nn.Module, path: str) -> bool:
    return isinstance(model.get_submodule(_parent(path)), nn.ModuleList)


def _parent(path: str) -> str:
    return path.rpartition(".")[0]
