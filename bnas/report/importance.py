"""Which choices matter for a value: permutation importance (Breiman 2001, "Random forests", section 10).

A ridge regression on the position of every choice among its values, and on the square of it, stands for the value. What
it says of subnets that it was not fitted to is compared with what it says once one choice is shuffled among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bnas.report.types import Importance
from bnas.space import Choice

Array = NDArray[np.float64]

MIN_SAMPLES = 20  # subnets; with fewer, or fewer than choices, nothing is said
FOLDS = 5
SHUFFLES = 8  # of each choice in each fold
_PENALTIES = np.logspace(-3, 4, 22)


def importance_of(
    value: str, choices: Sequence[Choice], indices: Sequence[Sequence[int]], values: Sequence[float]
) -> Importance:
    """The importance of each choice for `values` [subnets], whose choices have `indices` [subnets, choices].

    A score is the mean increase of the squared error, as a share of the variance of `values`: 0 for a choice that does
    not matter. It is of what was evaluated: a search that stays near the front moves some choices little.
    """
    rows, y = (
        np.array(indices, dtype=float).reshape(len(indices), len(choices)),
        np.array(values, dtype=float),
    )
    found = np.isfinite(y)
    rows, y = rows[found], y[found]
    variance = float(y.var()) if len(y) else 0.0
    if len(y) < needed(len(choices)) or variance <= 0:
        return Importance(value=value, samples=len(y))
    positions = rows / np.maximum([len(choice.values) - 1 for choice in choices], 1)
    rng = np.random.default_rng([0, len(y), len(choices)])
    fold = rng.permutation(len(y)) % FOLDS
    missed, rises = 0.0, np.zeros(len(choices))
    for own in range(FOLDS):
        held, fitted = fold == own, fold != own
        predict = _Ridge(positions[fitted], y[fitted])
        x, truth = positions[held], y[held]
        error = float(((predict(x) - truth) ** 2).sum())
        missed += error
        for place in range(len(choices)):
            for _ in range(SHUFFLES):
                shuffled = x.copy()
                shuffled[:, place] = rng.permutation(x[:, place])
                rises[place] += (float(((predict(shuffled) - truth) ** 2).sum()) - error) / SHUFFLES
    scores = np.maximum(rises / (len(y) * variance), 0.0)
    return Importance(
        value=value,
        samples=len(y),
        r2=1 - missed / (len(y) * variance),
        scores={choice.name: float(score) for choice, score in zip(choices, scores, strict=True)},
    )


def needed(choices: int) -> int:
    """How many subnets it takes to say anything of so many choices."""
    return max(MIN_SAMPLES, choices)


def ranked(importances: Sequence[Importance], choices: Sequence[Choice]) -> list[str]:
    """The names of all choices, those first that matter most for any of the values; as they are where nothing is known.

    Each value's scores count as shares of its largest, so that one value cannot drown another.
    """
    names = [choice.name for choice in choices]
    known = [own.scores for own in importances if own.scores]
    peaks = [max(scores.values()) or 1.0 for scores in known]
    told = {
        name: max(
            (scores.get(name, 0.0) / peak for scores, peak in zip(known, peaks, strict=True)), default=0.0
        )
        for name in names
    }
    return sorted(names, key=lambda name: -told[name])


class _Ridge:
    """Ridge regression on positions in [0, 1] and their squares; the penalty by leaving one out (Golub et al. 1979)."""

    def __init__(self, x: Array, y: Array) -> None:
        features = _features(x)
        self._mean, spread = features.mean(axis=0), features.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)
        self._base = float(y.mean())
        left, sizes, right = np.linalg.svd((features - self._mean) / self._scale, full_matrices=False)
        along = left.T @ (y - self._base)
        best = np.inf
        for penalty in _PENALTIES:
            kept = sizes**2 / (sizes**2 + penalty)
            leverage = (left**2 * kept).sum(axis=1) + 1 / len(y)
            residuals = (y - self._base - left @ (kept * along)) / np.maximum(1 - leverage, 1e-9)
            if (error := float((residuals**2).mean())) < best:
                best = error
                self._weights = right.T @ (sizes / (sizes**2 + penalty) * along)

    def __call__(self, x: Array) -> Array:
        told: Array = self._base + (_features(x) - self._mean) / self._scale @ self._weights
        return told


def _features(x: Array) -> Array:
    return np.hstack([x, (x - 0.5) ** 2])
