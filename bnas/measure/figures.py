"""How good predictions are: errors in per cent, order, and how much lies within the error bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnas.rank import kendall_tau

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """How far predictions are off on `count` subnets that the predictor had not seen.

    `mape_percent`: mean absolute error in per cent of the measurement; `within_…_percent`: how many per cent of
    the subnets are predicted so well; `kendall_tau` (tau-b) of the order; `covered_percent`: how many lie within
    their error bars (None: no error bars). `samples`: how many measurements the predictor was fitted to.
    """

    count: int
    samples: int
    mape_percent: float
    within_2_percent: float
    within_5_percent: float
    kendall_tau: float
    covered_percent: float | None = None


def figures_of(
    predicted: Array, measured: Array, samples: int, bounds: tuple[Array, Array] | None = None
) -> Figures:
    """The figures of `predicted` (n,) beside `measured` (n,); `bounds` are the ends of the error bars."""
    errors = np.abs(predicted / measured - 1)
    covered = None
    if bounds is not None:
        covered = 100 * float(np.mean((bounds[0] <= measured) & (measured <= bounds[1])))
    return Figures(
        count=len(measured),
        samples=samples,
        mape_percent=100 * float(errors.mean()),
        within_2_percent=100 * float((errors <= 0.02).mean()),
        within_5_percent=100 * float((errors <= 0.05).mean()),
        kendall_tau=kendall_tau(predicted, measured),
        covered_percent=covered,
    )
