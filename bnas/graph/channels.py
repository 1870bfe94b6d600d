"""The unknowns of tracing: which channels are the same, found by union-find with coarsening.

While a model runs, every axis of every tensor carries a tuple of `Part`s. Uniting two labels merges their
variables. Where one side counts in larger units (a grouped convolution reads 4 channels at a time), the
finer variable is coarsened: it hangs below the coarser one with a factor.
"""

from __future__ import annotations

from math import gcd
from typing import NamedTuple


class Channels:
    """A variable: `units` channels that some layer made; hangs below `parent` once united."""

    def __init__(self, name: str, units: int, order: int) -> None:
        self.name = name
        self.units = units
        self.order = order
        self.parent: Channels | None = None
        self.factor = 1  # how many of my units make one of my parent's
        self.why: list[str] = []

    def find(self) -> tuple[Channels, int]:
        """The root of this variable, and how many of its own units make one of the root's."""
        node, factor = self, 1
        while node.parent is not None:
            factor *= node.factor
            node = node.parent
        return node, factor

    def hang_below(self, parent: Channels, factor: int = 1) -> None:
        self.parent, self.factor = parent, factor
        parent.why += [reason for reason in self.why if reason not in parent.why]
        self.why = []

    def freeze(self, reason: str) -> None:
        root, _ = self.find()
        if reason not in root.why:
            root.why.append(reason)


class Part(NamedTuple):
    """`units` units of a variable, each `repeat` positions long; `channels=None` is of fixed size."""

    channels: Channels | None
    units: int
    repeat: int = 1

    @property
    def size(self) -> int:
        return self.units * self.repeat

    def resolved(self) -> Part:
        """The same part in units of its root."""
        if self.channels is None:
            return self
        root, factor = self.channels.find()
        return Part(root, root.units, self.repeat * factor)


Parts = tuple[Part, ...]


def fixed(size: int) -> Parts:
    """The label of an axis that belongs to no layer's channels."""
    return (Part(None, size),)


def is_fixed(label: Parts) -> bool:
    return all(part.channels is None for part in label)


def freeze(label: Parts, reason: str) -> None:
    """Fix the width of all channels in `label`, and keep the reason."""
    for part in label:
        if part.channels is not None:
            part.channels.freeze(reason)


def coarsen(part: Part, multiple: int) -> Part | None:
    """Make each unit of `part` a whole multiple of `multiple` positions; None when it does not divide."""
    part = part.resolved()
    if part.channels is None:
        return part if part.size % multiple == 0 else None
    factor = multiple // gcd(part.repeat, multiple)
    if part.units % factor:
        return None
    if factor > 1:
        root = Channels(part.channels.name, part.units // factor, part.channels.order)
        part.channels.hang_below(root, factor)
    return part.resolved()


def unite(a: Parts, b: Parts, where: str) -> Parts:
    """Make the channels along two axes of equal size the same; returns the common label.

    What cannot be matched segment by segment is frozen on both sides, which is always right.
    """
    left, right = merged(a), merged(b)
    if [part.size for part in left] != [part.size for part in right]:
        for label in (left, right):
            freeze(label, f"meets channels of another layout in {where}")
        return left
    for p, q in zip(left, right, strict=True):
        _unite_parts(p.resolved(), q.resolved(), where)
    return merged(left)


def merged(label: Parts) -> Parts:
    """`label` in units of its roots, with neighbouring fixed parts made one."""
    result: list[Part] = []
    for part in (part.resolved() for part in label):
        if result and part.channels is None and result[-1].channels is None:
            result[-1] = Part(None, result[-1].size + part.size)
        else:
            result.append(part)
    return tuple(result)


def _unite_parts(p: Part, q: Part, where: str) -> None:
    if p.channels is None or q.channels is None:
        freeze((p, q), f"meets an axis of fixed size in {where}")
        return
    if p.channels is q.channels:
        if p.repeat != q.repeat:
            freeze((p, q), f"meets itself at another stride in {where}")
        return
    if p.repeat < q.repeat:  # p counts in finer units
        p, q = q, p
    finer = q.channels
    assert finer is not None
    if p.repeat % q.repeat:
        freeze((p, q), f"meets channels of another unit in {where}")
        return
    assert p.channels is not None
    if p.repeat == q.repeat and finer.order < p.channels.order:
        p.channels.hang_below(finer)  # the older variable gives the group its name
    else:
        finer.hang_below(p.channels, p.repeat // q.repeat)
