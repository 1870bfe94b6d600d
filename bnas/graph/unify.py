"""Uniting labels: unification of sequences of parts, by refining their variables."""

from __future__ import annotations

from math import lcm

from bnas.graph.channels import (
    Channels,
    Part,
    Parts,
    coarsen,
    cut_variable,
    freeze,
    resolved,
    size,
)


def unite(a: Parts, b: Parts, where: str) -> Parts:
    """Make the channels along two axes of equal size the same; returns the common label.

    What cannot be matched is frozen on both sides, which is always right.
    """
    assert size(a) == size(b)
    left, right = resolved(a), resolved(b)
    while left and right:
        p, q = left[0], right[0]
        if p == q:
            left, right = left[1:], right[1:]
            continue
        if p.channels is None or q.channels is None:
            part, constant = (p, q) if q.channels is None else (q, p)
            if part.channels is not None and part.size > constant.size and constant.size % part.repeat == 0:
                cut_variable(part.channels, constant.size // part.repeat)
                left, right = resolved(left), resolved(right)
                continue
            freeze((p, q), f"meets an axis of fixed size in {where}")
            done = min(p.size, q.size)
            left, right = _drop(left, done), _drop(right, done)
            continue
        if p.channels.why and q.channels.why and p.size != q.size:  # both fixed already: nothing to match
            done = min(p.size, q.size)
            left, right = _drop(left, done), _drop(right, done)
            continue
        if not _match(p, q, where):
            freeze((p, q), f"meets channels of another unit in {where}")
            done = min(p.size, q.size)
            left, right = _drop(left, done), _drop(right, done)
            continue
        left, right = resolved(left), resolved(right)
    return resolved(a)


def _drop(label: Parts, count: int) -> Parts:
    """`label` without its first `count` positions; what is left of a part that is cut has a fixed size."""
    first, rest = label[0], label[1:]
    if first.size == count:
        return rest
    return resolved((Part(None, first.size - count), *rest))


def _match(p: Part, q: Part, where: str) -> bool:
    """One step towards p = q: unites them, or refines a variable; False where it cannot be."""
    assert p.channels is not None
    assert q.channels is not None
    if p.size == q.size:
        if p.repeat == q.repeat:
            _merge(p.channels, q.channels, where)
            return True
        coarse = lcm(p.repeat, q.repeat)
        return coarsen((p,), coarse) is not None and coarsen((q,), coarse) is not None
    longer, shorter = (p, q) if p.size > q.size else (q, p)
    assert longer.channels is not None
    if shorter.size % longer.repeat:
        return False
    cut_variable(longer.channels, shorter.size // longer.repeat)
    return True


def _merge(a: Channels, b: Channels, where: str) -> None:
    """Two variables of as many units become one."""
    old, new = a, b
    splits = [own for own in (new.split, old.split) if own is not None]
    if len(splits) == 2 and (size(splits[0].outer) != size(splits[1].outer)):
        splits[0].decide()  # seen as other products: each goes its own way
        if new.bound is None:
            splits[1].decide()
        unite((Part(old, old.units),), (Part(new, new.units),), where)
        return
    why = [reason for reason in new.why if reason not in old.why]
    sides, new.sides, new.split = new.sides, [], None
    new.why = []
    new.bind((Part(old, old.units),))
    old.sides += [side for side in sides if side not in old.sides]
    if splits and old.split is None:
        old.split, splits[0].whole = splits[0], old
    elif len(splits) == 2:
        splits[0].close()
        unite(splits[1].outer, splits[0].outer, where)
        unite(splits[1].inner, splits[0].inner, where)
    old.met = True
    for reason in why:
        old.freeze(reason)
    if old.why:
        old.decided()
