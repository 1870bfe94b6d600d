"""Predicting a subnet's latency from facts about its layers, fitted to what was measured.

Several kinds of predictors are compared by cross-validation and the best is kept. What is predicted is ratio to the
reference × the reference's median time over the campaign: what the subnet would have taken, had the machine kept its
speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bnas.errors import MeasureError, did_you_mean
from bnas.measure.cross_validation import (
    COVERAGE_PERCENT,
    MIN_MEASUREMENTS,
    Array,
    Costs,
    Samples,
    best_kind,
    bounds_of,
    cross_validated,
    errors_of,
    fit_to,
    spread_of,
)
from bnas.measure.features import tabulate
from bnas.measure.figures import Figures, figures_of
from bnas.measure.hardware import Hardware
from bnas.measure.predictors import BASELINES, PREDICTORS, Fit, Fitted
from bnas.measure.record import Measurement
from bnas.space import LayerCost


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Milliseconds of one inference, and between which bounds 95 % of measurements are expected."""

    ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True, kw_only=True)
class LatencyModel:
    """A predictor fitted to all `samples` measurements, and how good it is.

    `kind` names the predictor that was kept: of those in `PREDICTORS` the first, or the one with the least
    cross-validated error where that is clearly less. `cross_validated` are the figures of all kinds, and of the
    baselines, on the measurements of role "fit"; `held_out` those of the kept kind and of the baselines on the
    measurements of role "held_out", fitted without these; empty where nothing was held out.
    The error bar of a prediction is ± `spread` × the predictor's own standard error, which grows away from the
    measured subnets; with this `spread`, `coverage_percent` of the cross-validated residuals are within theirs
    (split conformal prediction, Lei et al. 2018).
    Times are in milliseconds of a moment when the reference took `reference_ms`.
    With a `base`, the model of other hardware, `fitted` predicts the factor on that model's prediction.
    """

    kind: str
    fitted: Fitted
    spread: float
    coverage_percent: float = COVERAGE_PERCENT
    samples: int
    cross_validated: dict[str, Figures] = field(hash=False)
    held_out: dict[str, Figures] = field(default_factory=dict, hash=False)
    reference_ms: float
    precision: str
    scenario: str
    threads: int
    streams: int
    batch: int
    hardware: Hardware
    base: LatencyModel | None = None

    @property
    def figures(self) -> Figures:
        """The kept kind's figures: on held-out subnets, or cross-validated where nothing was held out."""
        return (self.held_out or self.cross_validated)[self.kind]

    @property
    def macs_line(self) -> Figures:
        """Those of a straight line through the MACs, on the same subnets."""
        return (self.held_out or self.cross_validated)["macs_line"]


def fit_latency(
    measurements: Sequence[Measurement], costs: Costs, *, kinds: Iterable[str] | None = None
) -> LatencyModel:
    """The best of `kinds` (None: all of `PREDICTORS`) by cross-validation, fitted to all measurements.

    Raises:
        MeasureError: fewer than four measurements, all of them held out, or no such kind.
    """
    wanted = _fits(PREDICTORS if kinds is None else kinds)
    data = Samples.of(measurements, costs)
    fit = data.rows(data.role_fit)
    if len(fit.ms) < MIN_MEASUREMENTS:
        raise MeasureError(
            f"{len(fit.ms)} subnets are measured; a latency predictor needs {MIN_MEASUREMENTS} or more "
            "(measure.samples, or a larger search space)"
        )
    left_out = {name: cross_validated(fit, own) for name, own in {**wanted, **BASELINES}.items()}
    kind = best_kind({name: errors_of(left_out[name][0], fit.ms) for name in wanted})
    spread = spread_of(*left_out[kind], fit.ms)
    held_out = {}
    if not data.role_fit.all():
        test = data.rows(~data.role_fit)
        for name, own in ((kind, wanted[kind]), *BASELINES.items()):
            ms, error = fit_to(fit, own).predict(test.table)
            bounds = bounds_of(ms, error, spread) if name == kind else None
            held_out[name] = figures_of(ms, test.ms, len(fit.ms), bounds)
    first = measurements[0]
    return LatencyModel(
        kind=kind,
        fitted=fit_to(data, wanted[kind]),
        spread=spread,
        samples=len(measurements),
        cross_validated={name: figures_of(ms, fit.ms, len(fit.ms)) for name, (ms, _) in left_out.items()},
        held_out=held_out,
        reference_ms=data.reference_ms,
        precision=first.precision,
        scenario=first.scenario,
        threads=first.threads,
        streams=first.streams,
        batch=first.batch,
        hardware=first.hardware,
    )


def predict(model: LatencyModel, layers: Sequence[LayerCost]) -> Prediction:
    """The prediction for the subnet with these layers."""
    return predict_many(model, [layers])[0]


def predict_many(model: LatencyModel, subnets: Sequence[Sequence[LayerCost]]) -> tuple[Prediction, ...]:
    """Predictions for many subnets at once, each given by its layers; to the bit those of `predict`."""
    if not subnets:
        return ()
    ms, low, high = _predicted(model, subnets)
    return tuple(
        Prediction(ms=a, low_ms=b, high_ms=c)
        for a, b, c in zip(ms.tolist(), low.tolist(), high.tolist(), strict=True)
    )


def predict_ms(model: LatencyModel, layers: Sequence[LayerCost]) -> float:
    """Predicted latency in milliseconds of the subnet with these layers."""
    return predict(model, layers).ms


def learning_curve(
    measurements: Sequence[Measurement],
    costs: Costs,
    *,
    samples: Sequence[int] = (10, 30, 100, 300),
    kinds: Iterable[str] | None = None,
) -> dict[str, tuple[Figures, ...]]:
    """Figures on the held-out measurements by kind, each fitted to the first so many of the others.

    `kinds` (None: all, and the baselines); sizes above the number of measurements of role "fit" are left out.
    Empty where nothing was held out.
    """
    wanted = _fits((*PREDICTORS, *BASELINES) if kinds is None else kinds)
    data = Samples.of(measurements, costs)
    fit, test = data.rows(data.role_fit), data.rows(~data.role_fit)
    sizes = [size for size in samples if MIN_MEASUREMENTS <= size <= len(fit.ms)]
    if not len(test.ms):
        return {}
    curves: dict[str, list[Figures]] = {name: [] for name in wanted}
    for size in sizes:
        some = fit.rows(np.arange(len(fit.ms)) < size)
        for name, own in wanted.items():
            ms, _ = fit_to(some, own).predict(test.table)
            curves[name].append(figures_of(ms, test.ms, size))
    return {name: tuple(own) for name, own in curves.items()}


def left_out(
    model: LatencyModel, measurements: Sequence[Measurement], costs: Costs, *, kind: str | None = None
) -> tuple[Prediction, ...]:
    """A prediction for each measurement by a predictor that was fitted without it; `kind` None: the model's own.

    Those held out are predicted by one fitted to all others, the others in five parts by cross-validation.
    """
    fit = _fits([kind or model.kind])[kind or model.kind]
    data = Samples.of(measurements, costs)
    own = data.rows(data.role_fit)
    ms, error = np.zeros(len(data.ms)), np.zeros(len(data.ms))
    ms[data.role_fit], error[data.role_fit] = cross_validated(own, fit)
    if not data.role_fit.all():
        others = data.rows(~data.role_fit).table
        ms[~data.role_fit], error[~data.role_fit] = fit_to(own, fit).predict(others)
    spread = model.spread if kind in (None, model.kind) else spread_of(ms, error, data.ms)
    low, high = bounds_of(ms, error, spread)
    return tuple(
        Prediction(ms=a, low_ms=b, high_ms=c)
        for a, b, c in zip(ms.tolist(), low.tolist(), high.tolist(), strict=True)
    )


def _predicted(model: LatencyModel, subnets: Sequence[Sequence[LayerCost]]) -> tuple[Array, Array, Array]:
    table = tabulate(subnets, model.fitted.names, signatures=model.fitted.needs_signatures)
    factor: Array | float = 1.0
    if model.base is not None:
        factor = _predicted(model.base, subnets)[0]
        table = table.on(factor)
    ms, error = model.fitted.predict(table)
    low, high = bounds_of(ms, error, model.spread)
    return ms * factor, low * factor, high * factor


def _fits(kinds: Iterable[str]) -> dict[str, Fit]:
    known = {**PREDICTORS, **BASELINES}
    for kind in kinds:
        if kind not in known:
            raise MeasureError(f"no such latency predictor '{kind}'{did_you_mean(kind, known)}")
    return {kind: known[kind] for kind in kinds}


__all__ = [
    "COVERAGE_PERCENT",
    "Figures",
    "LatencyModel",
    "Prediction",
    "figures_of",
    "fit_latency",
    "learning_curve",
    "left_out",
    "predict",
    "predict_many",
    "predict_ms",
]
