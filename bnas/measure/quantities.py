"""Predicting what else a campaign reads of each subnet: bytes of its weights, peak memory, energy of an inference.

By the predictors of latency, fitted to the quantity instead of the time: all of them are sums over layers, nearly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bnas.errors import MeasureError, did_you_mean
from bnas.measure.cross_validation import (
    MIN_MEASUREMENTS,
    Array,
    Costs,
    Samples,
    best_kind,
    cross_validated,
    errors_of,
    fit_to,
)
from bnas.measure.features import tabulate
from bnas.measure.figures import Figures, figures_of
from bnas.measure.predictors import PREDICTORS, Fitted
from bnas.measure.record import Measurement
from bnas.space import LayerCost

QUANTITIES = ("size_bytes", "memory_bytes", "energy_mj")
KINDS = ("ridge", "gaussian_process")  # the first is kept where the other is not clearly better
_LEAST = 1e-3  # of the median: the least that a reading counts as, for the relative error of 0 is not defined
_EXACT = 1e-3  # relative standard error of one reading


@dataclass(frozen=True, kw_only=True)
class QuantityModel:
    """A predictor of one quantity, `name`, fitted to `samples` readings.

    `figures` tell how far it is off on subnets that were `judged_on`: held out, or where none were left out in turn.
    """

    name: str
    kind: str
    fitted: Fitted
    samples: int
    figures: Figures
    judged_on: str


def fit_quantity(measurements: Sequence[Measurement], costs: Costs, name: str) -> QuantityModel:
    """A predictor of the quantity `name`, one of `QUANTITIES`, fitted to the measurements that have it.

    Raises:
        MeasureError: no such quantity, or fewer than four measurements have it.
    """
    if name not in QUANTITIES:
        raise MeasureError(f"a campaign does not read '{name}'{did_you_mean(name, QUANTITIES)}")
    read = [line for line in measurements if getattr(line, name) is not None]
    if len(read) < MIN_MEASUREMENTS:
        raise MeasureError(
            f"{name} was read of {len(read)} subnets; its predictor needs {MIN_MEASUREMENTS} or more"
        )
    data = _samples(read, costs, name)
    fit = data.rows(data.role_fit)
    if len(fit.ms) < MIN_MEASUREMENTS:
        fit = data
    left_out = {kind: cross_validated(fit, PREDICTORS[kind])[0] for kind in KINDS}
    kind = best_kind({own: errors_of(left_out[own], fit.ms) for own in KINDS})
    figures, judged_on = figures_of(left_out[kind], fit.ms, len(fit.ms)), "left out in turn"
    if len(fit.ms) < len(data.ms):
        test = data.rows(~data.role_fit)
        found, _ = fit_to(fit, PREDICTORS[kind]).predict(test.table)
        figures, judged_on = figures_of(found, test.ms, len(fit.ms)), "held out"
    return QuantityModel(
        name=name,
        kind=kind,
        fitted=fit_to(data, PREDICTORS[kind]),
        samples=len(read),
        figures=figures,
        judged_on=judged_on,
    )


def predict_quantity(model: QuantityModel, layers: Sequence[LayerCost]) -> float:
    """The prediction for the subnet with these layers."""
    table = tabulate([layers], model.fitted.names, signatures=model.fitted.needs_signatures)
    return float(model.fitted.predict(table)[0][0])


def _samples(lines: Sequence[Measurement], costs: Costs, name: str) -> Samples:
    """The measurements with the quantity in the place of the time."""
    read = np.array([float(getattr(line, name)) for line in lines])
    values: Array = np.maximum(read, _LEAST * max(float(np.median(read)), _LEAST))
    return replace(
        Samples.of(lines, costs),
        ms=values,
        error=np.full(len(values), _EXACT),
    )
