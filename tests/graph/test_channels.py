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
    always_as_long,
    coarsen,
    cut,
    fixed,
    freeze,
    is_fixed,
    is_side,
    resolved,
    scaled,
    size,
    split_in_two,
    variable,
    whole_of,
)
from bnas.graph.unify import unite


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


@settings(max_examples=100, deadline=None)
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
            two, part = split_in_two(whole, outer), Part(whole, whole.units)
            promises.append(
                lambda kept, w=(part,), two=two: (
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


def times(label: Parts, repeat: int) -> Parts:
    return tuple(part._replace(repeat=part.repeat * repeat) for part in label)


def channels(label: Parts) -> Any:
    (part,) = label
    return part.channels


def test_equal_layouts_become_the_same_variable() -> None:
    a, b = variable(8), variable(8)
    assert unite(a, b, "a test") == resolved(a) == resolved(b)
    assert units(a) == [(8, 1, True)]


def test_a_coarser_partner_makes_coarser_units() -> None:
    """12 units of 1 against 4 units of 3; then 6 units of 2 as well: units of 6."""
    a, b, c = variable(12), times(variable(4), 3), times(variable(6), 2)
    unite(a, b, "a test")
    assert units(a) == units(b) == [(4, 3, True)]
    unite(c, a, "a test")
    assert units(a) == units(b) == units(c) == [(2, 6, True)]


def test_units_of_no_common_multiple_are_one_unit_or_frozen() -> None:
    """3 units of 2 against 2 units of 3: the only common unit is the whole."""
    a, b = times(variable(3), 2), times(variable(2), 3)
    unite(a, b, "a test")
    assert units(a) == units(b) == [(1, 6, True)]
    a, b = (*times(variable(2), 2), *variable(1)), (*variable(1), *times(variable(2), 2))
    unite(a, b, "a test")
    assert is_fixed(a)
    assert is_fixed(b)


def test_a_sequence_cuts_its_partner() -> None:
    a, b, whole = variable(3), variable(5), variable(8)
    unite(whole, (*a, *b), "a test")
    assert resolved(whole) == (*resolved(a), *resolved(b))
    assert units(whole) == [(3, 1, True), (5, 1, True)]


def test_two_sequences_cut_each_other() -> None:
    a, b, c, d = variable(3), variable(5), variable(6), variable(2)
    unite((*a, *b), (*c, *d), "a test")
    assert [units(label) for label in (a, b, c, d)] == [
        [(3, 1, True)],
        [(3, 1, True), (2, 1, True)],
        [(3, 1, True), (3, 1, True)],
        [(2, 1, True)],
    ]
    assert resolved(b)[1] == resolved(d)[0]


def test_one_several_times_over() -> None:
    """The queries, keys and values of the same heads."""
    heads, qkv = times(variable(4), 2), variable(24)
    unite(qkv, heads * 3, "a test")
    assert resolved(qkv) == resolved(heads) * 3
    unite(qkv, variable(24), "a test")
    assert units(qkv) == [(4, 2, True)] * 3


def test_a_variable_against_itself_moved() -> None:
    """a + b against b + a: all are one."""
    a, b = variable(4), variable(4)
    unite((*a, *b), (*b, *a), "a test")
    assert resolved(a) == resolved(b)
    assert units(a) == [(4, 1, True)]
    c, d = variable(2), variable(4)  # c, d0-1, d2-3 against d0-1, d2-3, c
    unite((*c, *d), (*d, *c), "a test")
    assert units(d) == [(2, 1, True), (2, 1, True)]
    assert resolved(d) == resolved(c) * 2


def test_each_twice_against_all_twice() -> None:
    """a0 a0 a1 a1 … against a0 a1 … a0 a1 …: every unit is every other."""
    a = variable(4)
    unite(times(a, 2), a * 2, "a test")
    assert is_fixed(a) or len({part.channels for part in resolved(a)}) == 1


def test_fixed_positions_freeze_only_what_they_meet() -> None:
    a = variable(8)
    unite(a, (*fixed(2), *variable(6)), "a test")
    assert units(a) == [(2, 1, False), (6, 1, True)]
    b = times(variable(3), 4)  # positions 0 to 4 reach into its second unit
    unite(b, (*fixed(5), *variable(7)), "a test")
    assert is_fixed(b)


def test_frozen_variables_freeze_their_partners_with_their_reasons() -> None:
    a, b = variable(8), variable(8)
    freeze(a, "one")
    freeze(a, "one")
    freeze(b, "two")
    unite(a, b, "a test")
    assert channels(resolved(a)).why == ["one", "two"]
    c = variable(8)
    unite(c, (*variable(4), *variable(4)), "a test")
    unite(c, b, "a test")
    assert is_fixed(c)


def test_coarsen() -> None:
    a = variable(12)
    assert units(coarsen(a, 4) or ()) == units(a) == [(3, 4, True)]
    assert units(coarsen(a, 2) or ()) == [(3, 4, True)]
    assert units(coarsen(a, 6) or ()) == [(1, 12, True)]
    assert coarsen(a, 5) is None
    both = (*variable(4), *variable(6))
    assert coarsen(both, 4) is None  # a unit would have to be in both
    assert units(both) == [(4, 1, True), (6, 1, True)]
    assert units(coarsen(both, 2) or ()) == [(2, 2, True), (3, 2, True)]
    twice = variable(6)
    assert units(coarsen(twice * 2, 3) or ()) == [(2, 3, True)] * 2


def test_cut() -> None:
    a = times(variable(4), 2)
    assert cut(a, [3, 5]) is None  # through a unit
    assert units(a) == [(4, 2, True)]
    pieces = cut(a, [2, 6])
    assert pieces is not None
    assert [units(piece) for piece in pieces] == [[(1, 2, True)], [(3, 2, True)]]
    assert resolved(a) == (*pieces[0], *pieces[1])
    assert cut(fixed(5), [2, 3]) == [fixed(2), fixed(3)]
    assert [units(piece) for piece in cut((*variable(2), *fixed(2)), [3, 1]) or ()] == [
        [(2, 1, True), (1, 1, False)],
        [(1, 1, False)],
    ]


def test_a_frozen_variable_may_be_cut_anywhere() -> None:
    a = times(variable(4), 2)
    freeze(a, "a test")
    pieces = cut(a, [3, 5])
    assert pieces is not None
    assert [size(piece) for piece in pieces] == [3, 5]
    assert all(is_fixed(piece) for piece in pieces)


def test_cut_of_what_occurs_twice() -> None:
    a = variable(4)
    first, second = cut(a * 2, [2, 6]) or ((), ())
    assert [part.units for part in first] == [2]
    assert resolved(second) == (resolved(a)[1], *resolved(a))


def seen_as_two(outer: int, inner: int) -> tuple[Parts, Split]:
    whole = variable(outer * inner)
    return whole, split_in_two(channels(whole), outer)


def test_a_split_waits_until_one_side_is_fixed() -> None:
    whole, two = seen_as_two(4, 3)
    assert units(whole) == [(12, 1, True)]
    freeze(two.inner, "a test")
    assert units(whole) == [(4, 3, True)]
    assert resolved(whole)[0].channels is channels(resolved(two.outer))
    whole, two = seen_as_two(4, 3)
    freeze(two.outer, "a test")
    assert resolved(whole) == resolved(two.inner) * 4
    assert units(whole) == [(3, 1, True)] * 4


def test_an_undecided_split_goes_by_its_outer_side_where_that_has_met_others() -> None:
    whole, two = seen_as_two(4, 3)
    unite(two.outer, variable(4), "a test")
    two.decide()
    assert units(whole) == [(4, 3, True)]
    assert is_fixed(two.inner)
    whole, two = seen_as_two(4, 3)
    unite(variable(4), two.outer, "a test")  # whichever side it is on
    two.decide()
    assert units(whole) == [(4, 3, True)]
    whole, two = seen_as_two(4, 3)
    two.decide()
    assert units(whole) == [(3, 1, True)] * 4
    assert is_fixed(two.outer)


def test_both_sides_fixed_fix_the_whole_and_the_other_way_round() -> None:
    whole, two = seen_as_two(4, 3)
    freeze(two.outer, "a test")
    freeze(two.inner, "a test")
    assert is_fixed(whole)
    whole, two = seen_as_two(4, 3)
    freeze(whole, "a test")
    assert is_fixed(two.outer)
    assert is_fixed(two.inner)


def test_a_frozen_whole_that_is_united_later_fixes_the_sides() -> None:
    for frozen_first in (True, False):
        whole, two = seen_as_two(4, 3)
        other = variable(12)
        freeze(other, "a test")
        unite(*((other, whole) if frozen_first else (whole, other)), "a test")
        assert is_fixed(two.outer)
        assert is_fixed(two.inner)


def test_splits_of_united_wholes_are_one() -> None:
    (a, one), (b, other) = seen_as_two(4, 3), seen_as_two(4, 3)
    unite(a, b, "a test")
    freeze(other.inner, "a test")
    assert units(a) == units(b) == [(4, 3, True)]
    assert resolved(one.outer) == resolved(other.outer)
    assert is_fixed(one.inner)


def test_united_wholes_seen_as_other_products() -> None:
    """4 × 3 and 2 × 6: decided one by one; the fixed sides make whole units of both."""
    (a, one), (b, other) = seen_as_two(4, 3), seen_as_two(2, 6)
    freeze(one.inner, "a test")
    freeze(other.inner, "a test")
    unite(a, b, "a test")
    assert units(a) == units(b) == [(2, 6, True)]
    assert units(one.outer) == [(2, 2, True)]
    (a, one), (b, other) = seen_as_two(4, 3), seen_as_two(2, 6)
    unite(a, b, "a test")
    assert resolved(a) == resolved(b)


def test_a_side_that_is_cut_or_made_coarser_stays_a_side() -> None:
    """Queries, keys and values within every head: their common size is fixed later, and the heads are elastic."""
    whole, two = seen_as_two(4, 6)
    pieces = cut(two.inner, [2, 2, 2])
    assert pieces is not None
    unite(pieces[0], pieces[1], "a test")
    assert units(whole) == [(24, 1, True)]
    assert all(is_side(piece) for piece in pieces)
    freeze(pieces[0], "a test")
    assert units(whole) == [(24, 1, True)]  # the third is not fixed yet
    freeze(pieces[2], "a test")
    assert units(whole) == [(4, 6, True)]
    whole, two = seen_as_two(4, 6)
    coarsen(two.inner, 3)
    assert is_side(two.inner)
    two.decide()
    assert units(whole) == [(2, 3, True)] * 4


def test_splits_of_splits() -> None:
    """3 × (heads × size), as of a joint projection."""
    whole, three = seen_as_two(3, 8)
    heads = split_in_two(channels(resolved(three.inner)), 4)
    assert is_side(heads.outer)
    freeze(three.outer, "a test")
    freeze(heads.inner, "a test")
    assert units(whole) == [(4, 2, True)] * 3


def test_sides_side_by_side_are_the_whole() -> None:
    whole, two = seen_as_two(4, 3)
    assert whole_of(two.outer, two.inner) == resolved(whole)
    assert whole_of(two.inner, two.outer) is None
    assert whole_of(two.outer, variable(3)) is None
    assert whole_of(two.outer, times(two.inner, 5)) == times(whole, 5)
    assert split_in_two(channels(whole), 4) is two
    two.decide()
    assert whole_of(two.outer, two.inner) is None


def test_scaled() -> None:
    assert units(scaled((*times(variable(3), 4), *fixed(8)), 2, 4)) == [(3, 2, True), (4, 1, False)]


def test_always_as_long() -> None:
    a, b = variable(4), variable(4)
    assert always_as_long((*a, *a), times(a, 2))
    assert not always_as_long(a, b)
    assert always_as_long((*a, *b, *fixed(1)), (*fixed(1), *b, *a))
    freeze(b, "a test")
    assert always_as_long((*a, *b), (*fixed(4), *a))


@pytest.mark.parametrize("swapped", [False, True])
def test_uniting_is_the_same_either_way_round(swapped: bool) -> None:
    def both(a: Parts, b: Parts) -> list[list[tuple[int, int, bool]]]:
        unite(*((b, a) if swapped else (a, b)), "a test")
        return [units(a), units(b)]

    assert both(variable(6), times(variable(3), 2)) == [[(3, 2, True)]] * 2
    assert both(variable(6), (*variable(2), *variable(4))) == [[(2, 1, True), (4, 1, True)]] * 2
    assert both(variable(6), fixed(6)) == [[(6, 1, False)]] * 2
    assert both((*variable(2), *fixed(2)), variable(4)) == [[(2, 1, True), (2, 1, False)]] * 2
