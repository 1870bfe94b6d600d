"""What turns the prediction for one hardware into that for another: a factor with few parameters.

Two machines differ in what arithmetic costs beside moving numbers or starting a layer. So the factor is a constant, a
power of the base's prediction, or linear in sums over the layers ÷ the base's prediction: then the other machine's
time is the base's × a constant + a price for each sum. All are drawn towards a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bnas.measure.features import TERMS, Table
from bnas.measure.predictors.base import LEAST_ERROR, Array, Fit, Fitted

# What every machine has a price for; what its kernels are slow at takes more measurements than there are.
_PRICED = tuple(term for term in TERMS if term not in ("outputs.ragged", "outputs.few_inputs"))
BASE = "base"  # names the base's prediction among the sums
_ALPHAS = np.logspace(-3, 4, 29)


@dataclass(frozen=True, kw_only=True)
class Correction(Fitted):
    """log factor = intercept + Σ coefficient × (x − mean) / scale, between `low` and `high`.

    The features are the base's prediction and sums over all layers (`TERMS`); x is a feature's logarithm, or, where
    it is `linear`, the feature ÷ the base's prediction, and the left side the factor itself. `spread` (features
    + 1, features + 1) is the inverse of the penalised normal matrix, in units of `error`, relative.
    """

    kind: Literal["correction"] = "correction"
    linear: bool = False
    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    intercept: float
    coefficients: tuple[float, ...]
    spread: tuple[tuple[float, ...], ...]
    alpha: float
    error: float
    low: float
    high: float

    def predict(self, table: Table) -> tuple[Array, Array]:
        """The factor of each subnet, and its relative standard error: (n,), (n,)."""
        x = (_columns(table, self.features, self.linear) - np.array(self.means)) / np.array(self.scales)
        x = np.column_stack([np.ones(len(table)), x])
        weights, spread = np.array([self.intercept, *self.coefficients]), np.array(self.spread)
        factor = np.clip((x * weights).sum(axis=1), self.low, self.high)
        factor = factor if self.linear else np.exp(factor)
        own = ((x[:, None, :] * spread).sum(axis=2) * x).sum(axis=1)
        return factor, self.error * np.sqrt(1 + np.maximum(own, 0))


def fit_scale(table: Table, factor: Array, error: Array) -> Correction:
    """The same factor for every subnet."""
    return _fit(table, factor, ())


def fit_power(table: Table, factor: Array, error: Array) -> Correction:
    """A power of the base's prediction: another share of what every subnet costs, however small."""
    return _fit(table, factor, (BASE,))


def fit_prices(table: Table, factor: Array, error: Array) -> Correction:
    """A price for each sum over the layers, and for a subnet, beside the base's prediction × a constant."""
    return _fit(table, factor, (BASE, *_PRICED), linear=True)


# From few parameters to many.
CORRECTIONS: dict[str, Fit] = {
    "scale": fit_scale,
    "power": fit_power,
    "prices": fit_prices,
}


def _columns(table: Table, features: Sequence[str], linear: bool) -> Array:
    """(n, features): logarithms, or sums ÷ the base's prediction, of which that of the base itself is 1 ÷ it."""
    assert table.base_ms is not None
    base = table.base_ms[:, None]
    if linear:
        totals = np.column_stack([table.totals, np.ones(len(table))]) / base
    else:  # numbers of 1 or more: times in nanoseconds
        totals = np.log(np.maximum(np.column_stack([table.totals, base * 1e6]), 1.0))
    order = (*TERMS, BASE)
    columns: Array = totals[:, [order.index(name) for name in features]]
    return columns


def _fit(table: Table, factor: Array, features: Sequence[str], *, linear: bool = False) -> Correction:
    """Ridge with the penalty whose leave-one-out error is least, relative; the intercept is not penalised."""
    columns, target = _columns(table, features, linear), factor if linear else np.log(factor)
    weight = 1 / factor if linear else np.ones(len(factor))
    means, scales = columns.mean(axis=0), columns.std(axis=0)
    kept = np.flatnonzero(scales > 1e-9 * np.abs(means))
    means, scales = means[kept], scales[kept]
    x = np.column_stack([np.ones(len(target)), (columns[:, kept] - means) / scales])
    rows, towards = x * weight[:, None], target * weight
    best: tuple[float, float, Array, Array] | None = None
    for alpha in _ALPHAS if len(kept) else [0.0]:
        penalty = alpha * np.mean(weight**2) * np.eye(x.shape[1])
        penalty[0, 0] = 0.0
        inverse = np.linalg.inv(rows.T @ rows + penalty)
        weights = inverse @ (rows.T @ towards)
        leverage = ((rows @ inverse) * rows).sum(axis=1)
        left_out = (towards - rows @ weights) / np.maximum(1 - leverage, 1e-3)
        score = float(np.sqrt(np.mean(left_out**2)))
        if best is None or score < best[0]:
            best = score, float(alpha), weights, inverse * np.mean(weight**2)
    assert best is not None
    score, alpha, weights, inverse = best
    low, high = float(np.log(factor.min())), float(np.log(factor.max()))
    low, high = 2 * low - high, 2 * high - low  # far from what was measured no law is to be trusted
    return Correction(
        linear=linear,
        features=tuple(features[place] for place in kept.tolist()),
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        intercept=float(weights[0]),
        coefficients=tuple(weights[1:].tolist()),
        spread=tuple(tuple(row) for row in inverse.tolist()),
        alpha=alpha,
        error=max(LEAST_ERROR, score),
        low=float(np.exp(low)) if linear else low,
        high=float(np.exp(high)) if linear else high,
    )
