"""Unification of labels, against a witness that keeps every position by itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnas.graph.channels import (
    Part,
    Parts,
    Split,
    coarsen,
    cut,
    fixed,
    freeze,
    is_fixed,
    is_side,
    resolved,
    size,
    split_in_two,
    unite,
    variable,
    whole_of,
)


class Kept:
    """One random choice of the units that stay, and what it makes of any label: a mask, position by position."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.units: dict[Any, list[bool]] = {}

    def __call__(self, label: Parts) -> list[bool]:
        return [kept for part in label for unit in self._units(part) for kept in [unit] * part.repeat]

    def _units(self, part: Part) -> list[bool]:
        channels = part.channels
        if channels is None or channels.why:
            return [True] * part.units
        if channels.bound is not None:
            return self(channels.bound)
        return self.units.setdefault(channels, [self.random.random() < 0.5 for _ in range(channels.units)])


def units(label: Parts) -> list[tuple[int, int, bool]]:
    """(units, repeat, free) of every part."""
    return [
        (part.units, part.repeat, part.channels is not None and not part.channels.why)
        for part in resolved(label)
    ]


@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_what_was_united_cut_or_seen_as_two_stays_so_whatever_is_dropped(data: st.DataObject) -> None:
    """Random steps on a pool of labels; each leaves a promise, which any choice of active units must keep."""
    pool: list[Parts] = [
        variable(n) for n in data.draw(st.lists(st.sampled_from([2, 3, 4, 6, 8, 12]), min_size=2, max_size=5))
    ]
    promises: list[Callable[[Kept], bool]] = []

    def pick(name: str) -> Parts:
        return data.draw(st.sampled_from(pool), label=name)

    for _ in range(data.draw(st.integers(1, 12))):
        step = data.draw(
            st.sampled_from(["unite", "cut", "coarsen", "cat", "repeat", "each", "split", "freeze"])
        )
        a = pick(step)
        if step == "unite":
            others = [label for label in pool if size(label) == size(a)]
            b = data.draw(st.sampled_from(others))
            common = unite(a, b, "a test")
            assert size(common) == size(a)
            promises.append(lambda kept, a=a, b=b: kept(a) == kept(b))
        elif step == "cut" and size(a) > 1:
            at = data.draw(st.integers(1, size(a) - 1))
            pieces = cut(a, [at, size(a) - at])
            if pieces is not None:
                assert [size(piece) for piece in pieces] == [at, size(a) - at]
                promises.append(lambda kept, a=a, p=pieces: kept(a) == kept(p[0]) + kept(p[1]))
                pool += pieces
        elif step == "coarsen":
            block = data.draw(st.sampled_from([2, 3, 4]))
            if coarsen(a, block) is not None:
                promises.append(
                    lambda kept, a=a, n=block: all(
                        len(set(kept(a)[i : i + n])) == 1 for i in range(0, size(a), n)
                    )
                )
        elif step == "cat" and size(a) <= 12:
            pool.append((*a, *pick("and")))
        elif step == "repeat" and size(a) <= 12:
            pool.append(a * data.draw(st.integers(2, 3)))
        elif step == "each" and size(a) <= 12:
            times = data.draw(st.integers(2, 3))
            pool.append(tuple(part._replace(repeat=part.repeat * times) for part in a))
        elif step == "split":
            (first, *rest) = resolved(a)
            whole = first.channels
            if whole is None or whole.why or rest or whole.units % 2 or whole.units == 2:
                continue
            outer = (
                size(whole.split.outer) if whole.split else data.draw(st.sampled_from([2, whole.units // 2]))
            )
            two = split_in_two(whole, outer)
            promises.append(
                lambda kept, w=((Part(whole, whole.units),)), two=two: (
                    kept(w) == [i and j for i in kept(two.outer) for j in kept(two.inner)]
                )
            )
            pool += [two.outer, two.inner]
        elif step == "freeze":
            freeze(a, "a test")
            promises.append(lambda kept, a=a: all(kept(a)))
    for label in pool:
        while waiting := [s for part in resolved(label) if part.channels for s in part.channels.waiting]:
            for split in waiting:
                split.decide()
    for seed in range(3):
        kept = Kept(seed)
        for promise in promises:
            assert promise(kept)
    for label in pool:
        assert size(resolved(label)) == size(label)
