"""Which of several points are the better ones: Pareto ranks and crowding distances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bnas.search.front import Points


def pareto_ranks(points: Points, violations: Sequence[float] | NDArray[np.float64]) -> NDArray[np.int64]:
    """The rank of each of `points` [n, objectives], as costs: 0 for what nothing dominates, 1 for what then remains …

    What breaks the constraints comes after all that keeps them, in order of its violation (Deb 2000). Of equal points
    the first dominates.
    """
    count, broken = len(points), np.asarray(violations, dtype=float)
    no_worse = (points[:, None] <= points[None]).all(axis=2)
    better = (points[:, None] < points[None]).any(axis=2)
    earlier = np.triu(np.ones((count, count), dtype=bool), 1)
    both_keep = (broken[:, None] == 0) & (broken[None] == 0)
    dominates = np.where(both_keep, no_worse & (better | earlier), broken[:, None] < broken[None])
    ranks = np.full(count, -1, dtype=np.int64)
    rank = 0
    while (left := np.flatnonzero(ranks < 0)).size:
        ranks[left[~dominates[np.ix_(left, left)].any(axis=0)]] = rank
        rank += 1
    return ranks


def crowding_distances(points: Points, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """How far apart the neighbours of each of `points` [n, objectives] are among those of its rank (Deb et al. 2002).

    The sum over the objectives, each as a part of the rank's range; infinite at the ends of a range.
    """
    distances = np.zeros(len(points))
    for rank in np.unique(ranks):
        own = np.flatnonzero(ranks == rank)
        for axis in points[own].T:
            order = np.argsort(axis, kind="stable")
            length = axis[order[-1]] - axis[order[0]]
            distances[own[order[[0, -1]]]] = np.inf
            if length > 0:
                distances[own[order[1:-1]]] += (axis[order[2:]] - axis[order[:-2]]) / length
    return distances
