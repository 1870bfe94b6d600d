"""Measurements as arrays, and what cross-validation on them tells: errors and error bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

import numpy as np
from numpy.typing import NDArray

from bnas.errors import MeasureError
from bnas.measure.features import Table, tabulate
from bnas.measure.predictors import Fit, Fitted
from bnas.measure.record import Measurement
from bnas.space import LayerCost, SubnetConfig

MIN_MEASUREMENTS = 4
COVERAGE_PERCENT = 95.0
FOLDS = 5
_NORMAL_95 = 1.96  # confidence half-widths are so many standard errors
_BEYOND = 1.5  # times the largest residual, where there are too few to tell of 95 %
_WIDEST = 1e6  # times the prediction: wider error bars, of a handful of noisy timings, say no more
_NO_LESS = 2.0  # standard errors to either side, where too few residuals tell of 95 %
Array = NDArray[np.float64]
Costs = Callable[[SubnetConfig], Sequence[LayerCost]]


@dataclass(frozen=True)
class Samples:
    """Measurements as arrays: what was measured, in milliseconds of the median moment, and its relative standard
    error."""

    table: Table
    ms: Array
    error: Array
    role_fit: NDArray[np.bool_]
    reference_ms: float

    @classmethod
    def of(cls, measurements: Sequence[Measurement], costs: Costs) -> Samples:
        """Raises MeasureError where there are none."""
        if not measurements:
            raise MeasureError(
                f"no subnets are measured; a latency predictor needs {MIN_MEASUREMENTS} or more (measure.samples)"
            )
        reference_ms = median(line.reference_ms for line in measurements)
        ratio = np.array([line.ratio for line in measurements])
        return cls(
            table=tabulate([costs(line.config) for line in measurements], signatures=True),
            ms=ratio * reference_ms,
            error=np.array([line.ratio_error_percent / 100 / _NORMAL_95 for line in measurements]),
            role_fit=np.array([line.role == "fit" for line in measurements]),
            reference_ms=reference_ms,
        )

    def rows(self, wanted: NDArray[np.bool_]) -> Samples:
        """Those measurements that are `wanted` (n,)."""
        table = self.table[np.flatnonzero(wanted)]
        return Samples(table, self.ms[wanted], self.error[wanted], self.role_fit[wanted], self.reference_ms)


def fit_to(data: Samples, fit: Fit) -> Fitted:
    """A predictor fitted to the measurements."""
    return fit(data.table, data.ms, data.error)


def cross_validated(data: Samples, fit: Fit) -> tuple[Array, Array]:
    """Predictions (n,) and their standard errors (n,) by predictors fitted to the other folds."""
    ms, error = np.zeros(len(data.ms)), np.zeros(len(data.ms))
    # Neighbours in time go to different folds, and so do neighbours in latency.
    fold = np.argsort(np.argsort(data.ms, kind="stable"), kind="stable") % min(FOLDS, len(data.ms))
    for own in range(int(fold.max()) + 1):
        test = fold == own
        ms[test], error[test] = fit_to(data.rows(~test), fit).predict(data.rows(test).table)
    return ms, error


def errors_of(predicted: Array, measured: Array) -> Array:
    """(n,) relative errors, as logarithms: twice as much and half as much are equally wrong."""
    errors: Array = np.abs(np.log(predicted / measured))
    return errors


def best_kind(errors: Mapping[str, Array]) -> str:
    """The kind to keep, by the errors (n,) of each on the same subnets.

    By the one-standard-error rule (Breiman et al. 1984, §3.4.3), on pairs: a later kind has to be better than
    the best so far by more than the standard error of the difference.
    """
    best, *others = errors
    for kind in others:
        gain = errors[best] - errors[kind]
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            best = kind
    return best


def spread_of(predicted: Array, error: Array, measured: Array) -> float:
    """How many of its standard errors hold the residuals of `COVERAGE_PERCENT` of n + 1 subnets."""
    ranked = np.sort(np.abs(np.log(measured / predicted)) / error)
    place = ceil((len(ranked) + 1) * COVERAGE_PERCENT / 100) - 1
    if place < len(ranked):
        return float(ranked[place])
    return max(_NO_LESS, _BEYOND * float(ranked[-1]))


def bounds_of(ms: Array, error: Array, spread: float) -> tuple[Array, Array]:
    """Both ends of the error bars (n,), in milliseconds."""
    width = np.minimum(spread * error, np.log(_WIDEST))
    return ms * np.exp(-width), ms * np.exp(width)
