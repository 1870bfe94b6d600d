"""Subnets as numbers that surrogates can be fitted to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bnas.search.problem import Problem
from bnas.space import Choice, SearchSpace, SubnetConfig

Array = NDArray[np.float64]
Codes = NDArray[np.int64]  # [subnets, choices], as `space.encode`
Rows = NDArray[np.int64]  # [subnets] which of those that were looked at

WIDTH = 0.5  # of the squared exponential over one choice, whose values span 1
_LEAST = 1e-3  # share of the largest subnet's value, below which logarithms do not go
_GATES = ("depth", "levels")  # dimensions that can leave out what other choices are about


@dataclass(frozen=True, eq=False, kw_only=True)
class Features:
    """What surrogates see of m subnets.

    `positions` [m, C]: where each choice stands between its smallest (−½) and its largest value (½), by the square root
    of the value, as width pays less the more there is of it. `levels` [m, L]: some numbers for each value of
    each choice, alike where values are near; a linear model in them is any function of that choice.
    `groups` [m, G]: mean positions of choices whose names differ in one number only, as those of a stage's blocks.
    `totals` [m, T]: how large the subnet is: the mean position of each dimension and, in the last `known` columns, the
    logarithms of what is known without evaluating.
    A choice that bears on nothing, as the width of a block that is left out, counts for nothing.
    """

    positions: Array
    levels: Array
    groups: Array
    totals: Array
    known: int

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: Rows) -> Features:
        return Features(
            positions=self.positions[rows],
            levels=self.levels[rows],
            groups=self.groups[rows],
            totals=self.totals[rows],
            known=self.known,
        )

    def without_known(self) -> Features:
        """For a value that is traded against what is known, as accuracy against latency.

        Over random subnets the one foretells the other well. Over those that a search finds, which are better than
        others of their latency, it does not: the best are thought worst.
        """
        return replace(self, totals=self.totals[:, : self.totals.shape[1] - self.known], known=0)


class Standardized:
    """Columns with the mean 0 and the variance 1 that those of `seen` [n, F] had; 0 for those that were constant."""

    def __init__(self, seen: Array) -> None:
        self._middle = seen.mean(axis=0)
        spread = seen.std(axis=0)
        self._scale = np.where(spread > 1e-9, spread, np.inf)

    def __call__(self, columns: Array) -> Array:
        return np.asarray((columns - self._middle) / self._scale)


class Encoding:
    """How the subnets of one problem become features."""

    def __init__(self, problem: Problem) -> None:
        choices = problem.space.choices
        self._positions = [_positions(choice) for choice in choices]
        self._levels = [_levels(own) for own in self._positions]
        self._groups, self._dims = _groups(problem.space), _dims(problem.space)
        largest = problem.cheaply(problem.canonical(problem.space.largest))
        self.names = tuple(sorted(largest))
        self._largest = np.array([largest[name] for name in self.names], dtype=np.float64)
        self._silenced = tuple(_silenced(problem))

    def of(self, codes: Codes, cheap: Array) -> Features:
        """The features of m subnets, by their codes [m, C] and what is cheaply known of them [m, names]."""
        active = np.ones(codes.shape)
        for gate, index, silent in self._silenced:
            active[np.ix_(codes[:, gate] == index, silent)] = 0.0
        at = [own[codes[:, place]] for place, own in enumerate(self._positions)]
        levels = [own[codes[:, place]] * active[:, place, None] for place, own in enumerate(self._levels)]
        positions = np.stack(at, axis=1) * active if at else np.zeros((len(codes), 0))
        return Features(
            positions=positions,
            levels=np.hstack(levels) if levels else np.zeros((len(codes), 0)),
            groups=positions @ self._groups,
            totals=np.hstack([positions @ self._dims, self._logs(cheap)]),
            known=len(self.names),
        )

    def _logs(self, cheap: Array) -> Array:
        scale = np.where(self._largest > 0, self._largest, 1.0)
        share = cheap / scale
        return np.where(self._largest > 0, np.log(np.maximum(share, _LEAST)), share)


def _positions(choice: Choice) -> Array:
    """[values] −½ … ½; 0 for a choice that leaves none."""
    values = np.array(choice.values, dtype=np.float64)
    if len(values) == 1:
        return np.zeros(1)
    if values[0] < 0:
        values = np.arange(len(values), dtype=np.float64)
    roots = np.sqrt(values)
    return np.asarray((roots - roots[0]) / (roots[-1] - roots[0]) - 0.5)


def _levels(positions: Array) -> Array:
    """[values, up to as many] numbers whose products are the squared exponential of the distances."""
    if len(positions) == 1:
        return np.zeros((1, 0))
    kernel = np.exp(-(np.subtract.outer(positions, positions) ** 2) / (2 * WIDTH**2))
    # What all values share is no news: the constant belongs to the whole model.
    centred = kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean()
    values, vectors = np.linalg.eigh(centred)
    kept = values > 1e-9 * values[-1]
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))


def _dims(space: SearchSpace) -> Array:
    """[C, dimensions] by which positions become means over the choices of each dimension."""
    own = np.array([[choice.dim == dim for dim in space.dims] for choice in space.choices], dtype=np.float64)
    own = own.reshape(len(space.choices), len(space.dims))
    return np.asarray(own / np.maximum(own.sum(axis=0), 1.0))


def _groups(space: SearchSpace) -> Array:
    """[C, G] by which positions become means over choices whose names are alike but for one number."""
    found: dict[str, list[int]] = {}
    for place, choice in enumerate(space.choices):
        parts = re.split(r"(\d+)", choice.name)
        for number in range(1, len(parts), 2):
            found.setdefault("".join((*parts[:number], "#", *parts[number + 1 :])), []).append(place)
    own = {tuple(places) for places in found.values() if len(places) > 1}
    means = np.zeros((len(space.choices), len(own)))
    for group, places in enumerate(sorted(own)):
        means[list(places), group] = 1 / len(places)
    return means


def _silenced(problem: Problem) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """(choice, index of its value, choices that then bear on nothing), found out by `problem.canonical`."""
    space, same = problem.space, problem.canonical
    for gate, choice in enumerate(space.choices):
        if choice.dim not in _GATES:
            continue
        for index, value in enumerate(choice.values[:-1]):
            left = SubnetConfig({**space.largest.values, choice.name: value})
            whole = same(left)
            silent = [
                place
                for place, other in enumerate(space.choices)
                if place != gate
                and len(other.values) > 1
                and same(SubnetConfig({**left.values, other.name: other.values[0]})) == whole
            ]
            if silent:
                yield gate, index, np.array(silent, dtype=np.int64)
