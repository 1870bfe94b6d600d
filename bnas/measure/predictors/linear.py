"""Linear predictors: a straight line through the MACs (a baseline), and ridge regression on sums over layers.

The error that counts is relative, so each measurement is weighted by 1 / its time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from bnas.measure.features import COLUMNS, Table
from bnas.measure.predictors.base import LEAST_ERROR, Array, Fitted, positive, row_sums

_ALPHAS = np.logspace(-8, 2, 31)
_MOST = 0.5  # relative standard error: beyond that a number says no more


@dataclass(frozen=True, kw_only=True)
class MacsLine(Fitted):
    """time = intercept + slope × MACs."""

    kind: Literal["macs_line"] = "macs_line"
    intercept: float
    slope: float
    least_ms: float
    error: float

    def predict(self, table: Table) -> tuple[Array, Array]:
        ms = positive(self.intercept + self.slope * table.macs, self.least_ms)
        return ms, np.full(len(ms), self.error)


def fit_macs_line(table: Table, ms: Array, error: Array) -> MacsLine:
    """The straight line with the least mean square of relative errors."""
    scale = table.macs.mean() or 1.0
    rows = np.column_stack([np.ones(len(ms)), table.macs / scale]) / ms[:, None]
    (intercept, slope), *_ = np.linalg.lstsq(rows, np.ones(len(ms)), rcond=None)
    residuals = rows @ np.array([intercept, slope]) - 1
    return MacsLine(
        intercept=float(intercept),
        slope=float(slope / scale),
        least_ms=float(ms.min() / 4),
        error=max(LEAST_ERROR, float(np.sqrt(np.mean(residuals**2)))),
    )


@dataclass(frozen=True, kw_only=True)
class Ridge(Fitted):
    """time = intercept + Σ coefficient × (feature − mean) / scale, over the features of `COLUMNS` named here.

    `spread` (features + 1, features + 1) is the inverse of the penalised normal matrix: how unsure a sum of
    coefficients is, in units of `error`, relative.
    """

    kind: Literal["ridge"] = "ridge"
    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    spread: tuple[tuple[float, ...], ...]
    alpha: float
    error: float
    least_ms: float

    @cached_property
    def _arrays(self) -> tuple[list[int], Array, Array, Array, Array]:
        return (
            [COLUMNS.index(name) for name in self.features],
            np.array(self.means),
            np.array(self.scales),
            np.array([self.intercept, *self.coefficients]),
            np.array(self.spread),
        )

    def predict(self, table: Table) -> tuple[Array, Array]:
        places, means, scales, weights, spread = self._arrays
        x = (table.columns[:, places] - means) / scales
        x = np.column_stack([np.ones(len(x)), x])
        ms = positive(row_sums(x * weights), self.least_ms)
        own = np.maximum(row_sums(row_sums(x[:, None, :] * spread) * x), 0) / ms**2
        return ms, np.minimum(self.error * np.sqrt(1 + own), max(_MOST, self.error))


def fit_ridge(table: Table, ms: Array, error: Array) -> Ridge:
    """Ridge with the penalty whose leave-one-out relative error is least; the intercept is not penalised.

    Leaving one out has a closed form: the residual ÷ (1 − leverage).
    """
    columns = table.columns
    means, scales = columns.mean(axis=0), columns.std(axis=0)
    kept = np.flatnonzero(scales > 1e-9 * np.abs(columns).max(axis=0, initial=0.0))
    means, scales = means[kept], scales[kept]
    x = np.column_stack([np.ones(len(ms)), (columns[:, kept] - means) / scales])
    rows = x / ms[:, None]
    level = float(np.median(ms))
    best: tuple[float, float, Array, Array] | None = None
    for alpha in _ALPHAS:
        penalty = alpha * len(ms) / level**2 * np.eye(x.shape[1])
        penalty[0, 0] = 0.0
        inverse = np.linalg.pinv(rows.T @ rows + penalty, hermitian=True)
        weights = inverse @ rows.sum(axis=0)
        leverage = ((rows @ inverse) * rows).sum(axis=1)
        left_out = (1 - rows @ weights) / np.maximum(1 - leverage, 1e-3)
        score = float(np.abs(left_out).mean())
        if best is None or score < best[0]:
            best = score, float(alpha), weights, inverse
    assert best is not None
    score, alpha, weights, inverse = best
    return Ridge(
        features=tuple(COLUMNS[place] for place in kept),
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        coefficients=tuple(weights[1:].tolist()),
        intercept=float(weights[0]),
        spread=tuple(tuple(row) for row in inverse.tolist()),
        alpha=alpha,
        error=max(LEAST_ERROR, score),
        least_ms=float(ms.min() / 4),
    )
