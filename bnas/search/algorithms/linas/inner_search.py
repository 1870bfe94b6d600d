"""NSGA-II (Deb et al., 2002) on predicted values, on arrays of many subnets at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bnas.search.algorithms.linas.surrogates import Array, Codes, Rows
from bnas.search.algorithms.ranking import crowding_distances, pareto_ranks

CROSSOVER = 0.9  # share of children with two parents
LEAP = 0.2  # share of mutations that draw any value rather than a next one


@dataclass(frozen=True, eq=False, kw_only=True)
class Scored:
    """m different subnets: which (`rows` [m]), their `codes` [m, C], `costs` [m, M] (smaller is better) and by how much
    they break the constraints, `broken` [m]."""

    rows: Rows
    codes: Codes
    costs: Array
    broken: Array

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: Rows) -> Scored:
        return Scored(
            rows=self.rows[places],
            codes=self.codes[places],
            costs=self.costs[places],
            broken=self.broken[places],
        )

    def join(self, other: Scored) -> Scored:
        return Scored(
            rows=np.append(self.rows, other.rows),
            codes=np.vstack([self.codes, other.codes]),
            costs=np.vstack([self.costs, other.costs]),
            broken=np.append(self.broken, other.broken),
        )


Score = Callable[[Codes], Scored]
"""Looks at codes [m, C], which may be codes of one network more than once; gives each network once."""


def evolve(
    start: Codes, score: Score, bounds: Rows, rng: np.random.Generator, *, size: int, generations: int
) -> tuple[Scored, Scored]:
    """The last population, and every subnet looked at.

    Each generation has `size` children that were not looked at before, fewer only where mating finds no more.
    """
    looked = score(start)
    population = looked.take(survivors(looked.costs, looked.broken, size))
    known = {code.tobytes() for code in looked.codes}
    for _ in range(generations):
        proposed = {code.tobytes(): code for code in _children(population, bounds, rng, 2 * size)}
        new = [code for key, code in proposed.items() if key not in known][:size]
        if not new:
            continue
        known.update(code.tobytes() for code in new)
        children = score(np.array(new))
        children = children.take(np.flatnonzero(~np.isin(children.rows, looked.rows)))
        looked = looked.join(children)
        both = population.join(children)
        population = both.take(survivors(both.costs, both.broken, size))
    return population, looked


def survivors(costs: Array, broken: Array, size: int) -> Rows:
    """Places of the `size` best of n subnets, the best first: by rank, then by how alone they are in it."""
    rank = pareto_ranks(costs, broken)
    alone = crowding_distances(costs, rank)
    return np.lexsort((-alone, rank))[:size]


def _children(population: Scored, bounds: Rows, rng: np.random.Generator, count: int) -> Codes:
    """[count, C] codes of children: tournaments of two, uniform crossover, steps of one value.

    `population` is in order of fitness, so that of two places the smaller wins.
    """
    length = len(bounds)
    parents = rng.integers(len(population), size=(2, count, 2)).min(axis=2)
    first, second = population.codes[parents[0]], population.codes[parents[1]]
    crossed = (rng.random((count, 1)) < CROSSOVER) & (rng.random((count, length)) < 0.5)
    children = np.where(crossed, second, first)
    mutated = rng.random((count, length)) < 1 / max(1, length)
    stepped = children + np.where(rng.random((count, length)) < 0.5, -1, 1)
    leapt = rng.integers(bounds, size=(count, length))
    moved = np.where(rng.random((count, length)) < LEAP, leapt, np.clip(stepped, 0, bounds - 1))
    return np.where(mutated, moved, children)
