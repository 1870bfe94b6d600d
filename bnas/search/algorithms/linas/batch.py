"""Which subnets to evaluate next, together: those that promise the front most, and those least known near it.

The promise is the expected improvement of the hypervolume, one subnet after the other, given those already taken
(Daulton et al. 2020, qEHVI, §3.3), over samples of the values that are not known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnas.search.algorithms.linas.surrogates import Array

LINES = 256  # parallel to one axis, along which hypervolume is measured
_CHUNK = 2_000_000  # numbers in memory at once
_AT_ONCE = 8  # gains that are computed again together


class Improvement:
    """By how much subnets would raise the hypervolume of a front, in shares of the box that it is measured in.

    The hypervolume is a sum of lengths along `axis`, over lines at chosen places on the other axes: exact for two
    objectives where no more than `LINES` values occur on the other, else a quasi-random sum (Roberts 2018, R_d).

    Args:
        front: [F, M] costs, smaller is better; possibly none.
        reference: [M] the worst costs that count.
        around: [m, M] costs of those to be judged, about.
        axis: of the objectives; best one whose values are not known.
    """

    def __init__(self, front: Array, reference: Array, around: Array, *, axis: int) -> None:
        self._axis = axis
        self._others = [own for own in range(len(reference)) if own != axis]
        points = np.vstack([front, around])
        ideal = np.minimum(points.min(axis=0, initial=np.inf), reference)
        self._ideal, self._length = ideal, np.where(reference > ideal, reference - ideal, 1.0)
        self._end = (reference - ideal) / self._length
        scaled = (points - self._ideal) / self._length
        if len(self._others) == 1:
            self._lines, self._weights = _edges(scaled[:, self._others], self._end[self._others])
        else:
            self._lines, self._weights = _quasi_random(self._end[self._others])
        self._floor = np.full((1, len(self._lines)), self._end[axis])
        for point in front:
            self.add(point[None], np.ones(1))

    def gains(self, samples: Array, possible: Array) -> Array:
        """[m] the mean improvement by each alone; `samples` [S, m, M] costs, `possible` [S, m] the chance that it
        can be evaluated and keeps the constraints."""
        scaled = (samples - self._ideal) / self._length
        count, width = samples.shape[1], max(1, _CHUNK // (len(samples) * len(self._lines)))
        found = np.zeros(count)
        for begin in range(0, count, width):
            part = scaled[:, begin : begin + width]
            lift = np.maximum(self._floor[:, None] - part[..., self._axis, None], 0.0)
            lift *= self._covers(part)
            found[begin : begin + width] = (lift @ self._weights * possible[:, begin : begin + width]).mean(
                axis=0
            )
        return found

    def add(self, sample: Array, possible: Array) -> None:
        """Take a subnet into the front: its costs [S, M] in each sample, and whether it is possible there [S]."""
        scaled = (sample - self._ideal) / self._length
        covered = self._covers(scaled[:, None])[:, 0] & (possible > 0)[:, None]
        height = np.minimum(self._floor, scaled[:, self._axis, None])
        self._floor = np.where(covered, height, self._floor)

    def _covers(self, scaled: Array) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """[S or 1, m, lines] whether a subnet is at least as good as a line on all other axes."""
        others = scaled[..., self._others]
        if (others == others[:1]).all():  # known exactly
            others = others[:1]
        return np.asarray((others[:, :, None] <= self._lines).all(axis=-1))


def most_promising(improvement: Improvement, samples: Array, possible: Array, count: int) -> list[int]:
    """Places of the `count` subnets, the best first, each given those before; fewer where nothing else improves."""
    taken: list[int] = []
    bounds = improvement.gains(samples, possible)
    while len(taken) < min(count, samples.shape[1]):
        # Gains only shrink as others are taken: those of before are bounds, and most need not be computed again.
        fresh = np.zeros(len(bounds), dtype=bool)
        while not fresh[best := int(bounds.argmax())]:
            stale = np.flatnonzero(~fresh)
            some = stale[np.argsort(-bounds[stale], kind="stable")[:_AT_ONCE]]
            bounds[some] = improvement.gains(samples[:, some], possible[:, some])
            fresh[some] = True
        if bounds[best] <= 0:
            break
        taken.append(best)
        bounds[best] = -1.0
        improvement.add(samples[:, best], possible[:, best])
    return taken


def least_known(
    covariances: Sequence[Array],
    noises: Sequence[float],
    among: Sequence[int],
    taken: Sequence[int],
    count: int,
) -> list[int]:
    """Places, out of `among`, of the `count` subnets whose values are least known, each given those before.

    `covariances` [m, m] of each unknown value, without the noise of evaluations; its standard deviations `noises`.
    """
    own = [covariance / noise**2 for covariance, noise in zip(covariances, noises, strict=True)]
    for place in taken:
        own = [_given(covariance, place) for covariance in own]
    left = [place for place in among if place not in set(taken)]
    found: list[int] = []
    while left and len(found) < count:
        unknown = sum(np.diag(covariance)[left] for covariance in own)
        best = left.pop(int(np.argmax(unknown)))
        found.append(best)
        own = [_given(covariance, best) for covariance in own]
    return found


def _given(covariance: Array, place: int) -> Array:
    """The covariance once the value at `place` is known, but for noise of variance 1."""
    column = covariance[:, place]
    return np.asarray(covariance - np.outer(column, column) / (max(column[place], 0.0) + 1.0))


def _edges(values: Array, end: Array) -> tuple[Array, Array]:
    """Lines at the values [n, 1] that occur below `end`, each with the distance to the next."""
    edges = np.unique(values[values < end])
    if len(edges) > LINES:
        edges = edges[np.linspace(0, len(edges) - 1, LINES).round().astype(np.int64)]
    return edges[:, None], np.diff(np.append(edges, end))


def _quasi_random(end: Array) -> tuple[Array, Array]:
    """Lines at evenly scattered places [LINES, axes] between 0 and `end`, of equal weights."""
    ratio = 2.0
    for _ in range(50):  # the root of x^(d+1) = x + 1
        ratio = (1 + ratio) ** (1 / (len(end) + 1))
    steps = ratio ** -np.arange(1.0, len(end) + 1)
    places = (0.5 + np.outer(np.arange(LINES), steps)) % 1.0
    return places * end, np.full(LINES, float(np.prod(end)) / LINES)
