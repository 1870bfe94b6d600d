"""Gradient boosting (Friedman 2001) of what a straight line through the MACs leaves over.

Trees of depth 3 on the logarithms of sums over layers, on random halves of the measurements; several runs are
averaged, and where they disagree the prediction is unsure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from bnas.measure.features import COLUMNS, Table
from bnas.measure.predictors.base import LEAST_ERROR, Array, Fitted, row_sums
from bnas.measure.predictors.linear import MacsLine, fit_macs_line

DEPTH, TREES, RUNS, RATE, SHARE, LEAF = 3, 60, 4, 0.1, 0.6, 2
_INNER = 2**DEPTH - 1


@dataclass(frozen=True, kw_only=True)
class Boosting(Fitted):
    """log(time ÷ line) = Σ of trees. Each tree is complete: node i has the children 2i + 1 and 2i + 2.

    places, thresholds (runs × trees, inner nodes): go right where log(1 + feature) is above; leaves
    (runs × trees, 2^depth).
    """

    kind: Literal["boosting"] = "boosting"
    line: MacsLine
    features: tuple[str, ...]
    places: tuple[tuple[int, ...], ...]
    thresholds: tuple[tuple[float, ...], ...]
    leaves: tuple[tuple[float, ...], ...]
    error: float

    @cached_property
    def _arrays(self) -> tuple[list[int], np.ndarray, Array, Array]:
        columns = [COLUMNS.index(name) for name in self.features]
        return columns, np.array(self.places), np.array(self.thresholds), np.array(self.leaves)

    def predict(self, table: Table) -> tuple[Array, Array]:
        columns, places, thresholds, leaves = self._arrays
        x = np.log1p(table.columns[:, columns])
        trees = np.arange(len(places))
        node = np.zeros((len(x), len(places)), dtype=np.intp)
        for _ in range(DEPTH):
            right = np.take_along_axis(x, places[trees, node], axis=1) > thresholds[trees, node]
            node = 2 * node + 1 + right
        runs = row_sums(leaves[trees, node - _INNER].reshape(len(x), RUNS, -1))
        mean = row_sums(runs) / RUNS
        apart = row_sums((runs - mean[:, None]) ** 2) / RUNS
        return self.line.predict(table)[0] * np.exp(mean), np.sqrt(self.error**2 + apart)


def fit_boosting(table: Table, ms: Array, error: Array) -> Boosting:
    """Each run draws its halves from a generator of its own, so that a fit depends on the measurements alone."""
    line = fit_macs_line(table, ms, error)
    columns = table.columns
    kept = np.flatnonzero(columns.std(axis=0) > 1e-9 * np.abs(columns).max(axis=0, initial=0.0))
    x = np.log1p(columns[:, kept]) if len(kept) else np.zeros((len(ms), 1))
    kept = kept if len(kept) else np.array([0])
    target = np.log(ms / line.predict(table)[0])
    trees, left = [], np.zeros(len(ms))
    for run in range(RUNS):
        rng = np.random.default_rng(run)
        rest = target.copy()
        for _ in range(TREES):
            some = np.sort(rng.permutation(len(ms))[: max(2, int(SHARE * len(ms)))])
            tree = _tree(x[some], rest[some])
            trees.append(tree)
            rest -= _apply(tree, x)
        left += rest / RUNS
    return Boosting(
        line=line,
        features=tuple(COLUMNS[place] for place in kept),
        places=tuple(tuple(int(place) for place in places) for places, _, _ in trees),
        thresholds=tuple(tuple(thresholds) for _, thresholds, _ in trees),
        leaves=tuple(tuple(leaves) for _, _, leaves in trees),
        error=max(LEAST_ERROR, float(np.sqrt(np.mean(left**2)))),
    )


_Tree = tuple[list[int], list[float], list[float]]


def _tree(x: Array, y: Array) -> _Tree:
    """The greedy tree of least squares, its leaves shrunk by `RATE`; a node that is not split sends all left."""
    places, thresholds = [0] * _INNER, [float("inf")] * _INNER
    means = [0.0] * (2 * _INNER + 1)
    members = {0: np.arange(len(y))}
    means[0] = float(y.mean())
    for node in range(_INNER):
        own = members.pop(node)
        places[node], thresholds[node] = _split(x[own], y[own])
        right = x[own, places[node]] > thresholds[node]
        for child, part in ((2 * node + 1, own[~right]), (2 * node + 2, own[right])):
            members[child] = part
            means[child] = float(y[part].mean()) if len(part) else means[node]
    thresholds = [min(threshold, 1e300) for threshold in thresholds]  # JSON knows no infinity
    return places, thresholds, [RATE * mean for mean in means[_INNER:]]


def _split(x: Array, y: Array) -> tuple[int, float]:
    """The column and threshold that lower the sum of squares most; at least `LEAF` on either side."""
    count = len(y)
    if count < 2 * LEAF:
        return 0, float("inf")
    order = np.argsort(x, axis=0, kind="stable")
    ranked = np.take_along_axis(x, order, axis=0)
    sums = np.cumsum(y[order], axis=0)[:-1]
    left = np.arange(1, count)[:, None]
    gain = sums**2 / left + (sums[-1:] + y[order][-1:] - sums) ** 2 / (count - left)
    gain[(ranked[1:] <= ranked[:-1]) | (left < LEAF) | (count - left < LEAF)] = -1.0
    best = int(np.argmax(gain))
    row, column = divmod(best, x.shape[1])
    if gain[row, column] < 0:
        return 0, float("inf")
    return column, float((ranked[row, column] + ranked[row + 1, column]) / 2)


def _apply(tree: _Tree, x: Array) -> Array:
    places, thresholds, leaves = (np.array(part) for part in tree)
    node = np.zeros(len(x), dtype=np.intp)
    for _ in range(DEPTH):
        node = 2 * node + 1 + (x[np.arange(len(x)), places[node]] > thresholds[node])
    return np.asarray(leaves[node - _INNER], dtype=np.float64)
