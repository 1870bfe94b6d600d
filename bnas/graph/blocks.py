"""Find the blocks that may be skipped: modules that add their very input to their output.

Such a block computes y = x + f(x) (He et al. 2016), perhaps with activations after the sum. Without it y is
x, which has the same shape and the same channels for every width, so nothing else has to change.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from bnas.graph.channels import Parts, merged
from bnas.graph.facts import Block, is_inside


@dataclass(frozen=True)
class _Found:
    path: str
    entered_with: int
    left_with: int
    before: tuple[Parts, ...]
    after: tuple[Parts, ...]


class BlockFinder:
    """Watches modules begin and end; knows afterwards which are blocks and which blocks are neighbours."""

    def __init__(self) -> None:
        self._open: list[tuple[str, int | None, tuple[Parts, ...]]] = []
        self._found: list[_Found] = []
        self._calls: Counter[str] = Counter()

    def enter(self, path: str, token: int | None, labels: tuple[Parts, ...]) -> None:
        self._open.append((path, token, labels))
        self._calls[path] += 1

    def leave(self, path: str, token: int | None, labels: tuple[Parts, ...], sums: frozenset[int]) -> None:
        opened, entered_with, before = self._open.pop()
        assert opened == path
        if entered_with is not None and token is not None and entered_with in sums and path:
            self._found.append(_Found(path, entered_with, token, before, labels))

    def blocks(self) -> tuple[Block, ...]:
        """The innermost blocks in order of execution, grouped into stages of direct neighbours."""
        candidates = [
            found
            for found in self._found
            if self._calls[found.path] == 1 and _same(found.before, found.after)
        ]
        innermost = [
            block
            for block in candidates
            if not any(other is not block and is_inside(other.path, block.path) for other in candidates)
        ]
        runs: list[list[_Found]] = []
        for block in innermost:
            if runs and runs[-1][-1].left_with == block.entered_with:
                runs[-1].append(block)
            else:
                runs.append([block])
        parents = Counter(_parent(run[0].path) for run in runs)
        blocks: list[Block] = []
        for run in runs:
            parent = _parent(run[0].path)
            whole = parent and parents[parent] == 1 and all(_parent(block.path) == parent for block in run)
            stage = parent if whole else run[0].path
            blocks += [Block(name=block.path, stage=stage) for block in run]
        return tuple(blocks)


def _same(before: tuple[Parts, ...], after: tuple[Parts, ...]) -> bool:
    return [merged(label) for label in before] == [merged(label) for label in after]


def _parent(path: str) -> str:
    return path.rpartition(".")[0]
