"""The unknowns of tracing: which channels are the same, found by unification.

Every axis of every tensor carries a label: a tuple of `Part`s. The axes of a weight begin as variables of
their own; whatever meets is united. Uniting labels of another layout refines the variables: one is bound to
a sequence of others (a coarser one, several in a row, one several times over), never stored per element.

Where an axis is seen as two (heads × head size, groups × channels), it is not known at first which of the
two is elastic: a `Split` waits until one of them proves to be of fixed size.
"""

from __future__ import annotations

from collections import Counter
from math import lcm
from typing import NamedTuple


class Channels:
    """A variable: `units` indivisible units that are kept or dropped one by one."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.bound: Parts | None = None
        self.why: list[str] = []
        self.split: Split | None = None  # this variable seen as two axes
        self.sides: list[Split] = []  # the splits that this variable is a side of
        self.met = False  # whether it has been united with others

    @property
    def waiting(self) -> list[Split]:
        """The splits that are decided with this variable."""
        return [*self.sides, *([self.split] if self.split is not None else [])]

    def bind(self, parts: Parts) -> None:
        """From now on this variable is `parts`."""
        assert self.bound is None
        assert sum(part.size for part in parts) == self.units
        self.bound = parts
        for reason in self.why:
            freeze(parts, reason)

    def freeze(self, reason: str) -> None:
        if reason in self.why:
            return
        self.why.append(reason)
        self.decided()

    def decided(self) -> None:
        """Nothing that waits for this variable, which is frozen, has to wait any longer."""
        if self.split is not None:
            split, self.split = self.split, None
            split.close()
            for reason in self.why:
                freeze((*split.outer, *split.inner), reason)
        for split in list(self.sides):
            if is_fixed(split.outer) or is_fixed(split.inner):
                split.decide()


class Part(NamedTuple):
    """All units of a variable, each `repeat` positions long; `channels=None`: `units` positions of fixed size."""

    channels: Channels | None
    units: int
    repeat: int = 1

    @property
    def size(self) -> int:
        return self.units * self.repeat


Parts = tuple[Part, ...]


class Split:
    """A variable of outer × inner units, of which one side is elastic and the other of fixed size."""

    def __init__(self, whole: Channels, outer: int, inner: int) -> None:
        self.whole = whole
        self.outer: Parts = variable(outer)
        self.inner: Parts = variable(inner)
        whole.split = self
        for side in (self.outer, self.inner):
            assert side[0].channels is not None
            side[0].channels.sides.append(self)

    def close(self) -> None:
        """Nothing waits for a decision any more."""
        for label in (self.outer, self.inner):
            for part in resolved(label):
                if part.channels is not None and self in part.channels.sides:
                    part.channels.sides.remove(self)

    def decide(self, *, outer: bool | None = None) -> None:
        """Bind the whole now: its outer side is elastic where the inner is fixed, and the other way round.

        Undecided otherwise, the outer is where it has met other channels (heads do), else the inner.
        """
        if self.whole.split is not self:
            self.close()
            return
        self.whole.split = None
        self.close()
        a, b = resolved(self.outer), resolved(self.inner)
        if outer is None:
            met = any(part.channels is not None and part.channels.met for part in a)
            outer = is_fixed(b) or (not is_fixed(a) and met)
        if outer:
            freeze(b, "is the size of a unit of its own")
            self.whole.bind(tuple(part._replace(repeat=part.repeat * size(b)) for part in a))
        else:
            freeze(a, "is how often a unit occurs")
            self.whole.bind(b * size(a))


def variable(units: int) -> Parts:
    """The label of an axis of `units` units nothing is known about yet."""
    return (Part(Channels(units), units),)


def fixed(size: int) -> Parts:
    """The label of an axis that belongs to no layer's channels."""
    return (Part(None, size),)


def size(label: Parts) -> int:
    """Positions along the axis."""
    return sum(part.size for part in label)


def scaled(label: Parts, times: int, per: int) -> Parts:
    """Every `per` positions along an axis become `times` positions."""
    return tuple(
        Part(None, part.size // per * times)
        if part.channels is None
        else part._replace(repeat=part.repeat // per * times)
        for part in label
    )


def always_as_long(a: Parts, b: Parts) -> bool:
    """Whether two axes have the same length whatever is kept, as they are made of the same parts."""
    return _lengths(a) == _lengths(b)


def _lengths(label: Parts) -> Counter[Channels | None]:
    lengths: Counter[Channels | None] = Counter()
    for part in resolved(label):
        free = part.channels is not None and not part.channels.why
        lengths[part.channels if free else None] += part.size
    return lengths


def resolved(label: Parts) -> Parts:
    """`label` in terms of unbound variables, with neighbouring fixed parts made one."""
    result: list[Part] = []
    for part in label:
        for own in _expand(part):
            if result and own.channels is None and result[-1].channels is None:
                result[-1] = Part(None, result[-1].size + own.size)
            else:
                result.append(own)
    return tuple(result)


def _expand(part: Part) -> Parts:
    channels = part.channels
    if channels is None:
        return (Part(None, part.size),)
    if channels.bound is None:
        return (part,)
    channels.bound = resolved(channels.bound)
    return tuple(own._replace(repeat=own.repeat * part.repeat) for own in channels.bound)


def is_fixed(label: Parts) -> bool:
    """Whether no channel along the axis may ever go."""
    return all(part.channels is None or part.channels.why for part in resolved(label))


def freeze(label: Parts, reason: str) -> None:
    """Fix the width of all channels in `label`, and keep the reason."""
    for part in resolved(label):
        for own in resolved((part,)):  # freezing one part may decide a split that another waits for
            if own.channels is not None:
                own.channels.freeze(reason)


def coarsen(label: Parts, multiple: int) -> Parts | None:
    """Make each unit along the axis a whole multiple of `multiple` positions; None when it does not divide."""
    parts = resolved(label)
    if any(part.size % multiple for part in parts):
        return None
    for part in parts:
        factor = lcm(part.repeat, multiple) // part.repeat
        if part.channels is not None and factor > 1:
            _refine(part.channels, (part.channels.units // factor, factor))
            return coarsen(label, multiple)
    return resolved(label)


def cut(label: Parts, sizes: list[int]) -> list[Parts] | None:
    """`label` in pieces of `sizes` positions; None where a cut would go through a unit."""
    pieces: list[Parts] = []
    rest = list(resolved(label))
    for wanted in sizes:
        piece: list[Part] = []
        while wanted:
            part = rest.pop(0)
            if part.size > wanted:
                if part.channels is not None and (wanted % part.repeat == 0 or not part.channels.why):
                    if wanted % part.repeat:
                        return None
                    cut_variable(part.channels, wanted // part.repeat)
                    rest = [own for one in (part, *rest) for own in resolved((one,))]
                    piece = list(resolved(tuple(piece)))
                    continue
                part, left = Part(None, wanted), Part(None, part.size - wanted)
                rest.insert(0, left)
            piece.append(part)
            wanted -= part.size
        pieces.append(tuple(piece))
    return [resolved(piece) for piece in pieces]


def _refine(channels: Channels, *parts: tuple[int, int]) -> None:
    """Bind a variable to new ones of (units, repeat) in a row; what is a side of a split stays one."""
    if channels.split is not None:
        channels.split.decide()
    if channels.bound is not None:
        return
    new = [Channels(units) for units, _ in parts]
    sides, channels.sides = channels.sides, []
    for own in new:
        own.sides, own.met = list(sides), channels.met
    channels.bind(tuple(Part(own, *part) for own, part in zip(new, parts, strict=True)))


def cut_variable(channels: Channels, units: int) -> None:
    _refine(channels, (units, 1), (channels.units - units, 1))


def is_side(label: Parts) -> bool:
    """Whether the axis is one side of a split that is not decided yet."""
    return any(part.channels is not None and part.channels.sides for part in resolved(label))


def split_in_two(channels: Channels, outer: int) -> Split:
    """`channels` seen as `outer` × the rest; the same split for every such view of it."""
    assert channels.units % outer == 0
    if channels.split is None:
        return Split(channels, outer, channels.units // outer)
    assert size(channels.split.outer) == outer
    return channels.split


def whole_of(outer: Parts, inner: Parts) -> Parts | None:
    """The channels that two neighbouring axes are the undecided sides of; None where they are not."""
    if len(outer) != 1 or len(inner) != 1 or outer[0].channels is None or inner[0].channels is None:
        return None
    for split in outer[0].channels.sides:
        own = resolved(split.inner)
        if resolved(split.outer) == outer and len(own) == 1 and own[0].channels is inner[0].channels:
            return (Part(split.whole, split.whole.units, inner[0].repeat),)
    return None
