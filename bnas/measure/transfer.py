"""From the latency model of one hardware to that of another, with few measurements.

The other hardware's time is the source's prediction × a factor. Several kinds of factor, with no to many
parameters, are compared by cross-validation, and so is a predictor fitted afresh: where the source says nothing
about the other hardware, it is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray

from bnas.errors import MeasureError
from bnas.measure.cross_validation import MIN_MEASUREMENTS, best_kind, bounds_of, errors_of, spread_of
from bnas.measure.features import Table, tabulate
from bnas.measure.figures import Figures, figures_of
from bnas.measure.latency import LatencyModel, fit_latency, predict_many
from bnas.measure.predictors import BASELINES, PREDICTORS, Fit
from bnas.measure.predictors.correction import CORRECTIONS
from bnas.measure.record import Measurement
from bnas.space import LayerCost, SubnetConfig

AFRESH = "afresh"  # the kind of figures of predictors that know nothing of the source
_FRESH = ("gaussian_process", "ridge")  # kinds in PREDICTORS that few measurements are enough for
_FOLDS = 10  # few measurements: most of them should be fitted to
_NORMAL_95 = 1.96  # the half-width of a 95 % confidence interval in standard errors

Array = NDArray[np.float64]
Costs = Callable[[SubnetConfig], Sequence[LayerCost]]


def transfer(source: LatencyModel, measurements: Sequence[Measurement], costs: Costs) -> LatencyModel:
    """The latency model of the hardware of `measurements`, of subnets of the space that `source` was fitted on.

    Twenty measurements are enough. The model has `source` as its `base` and the best of `CORRECTIONS` as
    `fitted`; or it is what `fit_latency` makes of the measurements alone, where that is better by
    cross-validation. Its figures, cross-validated and on measurements of role "held_out", tell of every kind
    of correction, of a predictor fitted "afresh" and of the baselines.

    Raises:
        MeasureError: fewer than four measurements that are not held out.
    """
    data = _Data.of(measurements, costs, source)
    chosen = np.array([line.role == "fit" for line in measurements], dtype=bool)
    fit, test = data.rows(chosen), data.rows(~chosen)
    if len(fit.ms) < MIN_MEASUREMENTS:
        raise MeasureError(
            f"{len(fit.ms)} subnets are measured; to carry a latency model over to other hardware takes "
            f"{MIN_MEASUREMENTS} or more, better 20 (measure.samples)"
        )
    candidates = _candidates()
    left_out = {name: _left_out(own, fit) for name, own in candidates.items()}
    errors = {name: errors_of(own, fit.ms) for name, (own, _) in left_out.items()}
    fresh = min(_FRESH, key=lambda name: float(errors[_afresh(name)].mean()))
    kind = best_kind({name: errors[name] for name in (*CORRECTIONS, _afresh(fresh))})
    spread = spread_of(*left_out[kind], fit.ms)
    names = {**{name: name for name in (*CORRECTIONS, *BASELINES)}, AFRESH: _afresh(fresh)}
    cross_validated = {
        shown: figures_of(left_out[name][0], fit.ms, len(fit.ms)) for shown, name in names.items()
    }
    held_out: dict[str, Figures] = {}
    if len(test.ms):
        for shown, name in names.items():
            ms, error = candidates[name].predict(fit, test.table)
            held_out[shown] = figures_of(
                ms, test.ms, len(fit.ms), bounds_of(ms, error, spread) if name == kind else None
            )
    if kind not in CORRECTIONS:
        model = fit_latency(measurements, costs, kinds=[fresh])
        return replace(
            model,
            cross_validated={**cross_validated, **model.cross_validated},
            held_out={**held_out, **model.held_out} if held_out else {},
        )
    first = measurements[0]
    return LatencyModel(
        kind=kind,
        fitted=CORRECTIONS[kind](data.table, data.ms / data.base_ms, data.error),
        spread=spread,
        samples=len(measurements),
        cross_validated=cross_validated,
        held_out=held_out,
        reference_ms=data.reference_ms,
        precision=first.precision,
        scenario=first.scenario,
        threads=first.threads,
        streams=first.streams,
        batch=first.batch,
        hardware=first.hardware,
        base=source,
    )


@dataclass(frozen=True)
class _Data:
    """Measurements as arrays (n,): times of the median moment in milliseconds, and their relative standard error."""

    table: Table
    ms: Array
    error: Array
    reference_ms: float

    @classmethod
    def of(cls, measurements: Sequence[Measurement], costs: Costs, source: LatencyModel) -> _Data:
        subnets = [costs(line.config) for line in measurements]
        base_ms = np.array([own.ms for own in predict_many(source, subnets)])
        reference_ms = median(line.reference_ms for line in measurements) if measurements else 0.0
        return cls(
            table=tabulate(subnets, signatures=True).on(base_ms),
            ms=np.array([line.ratio * reference_ms for line in measurements]),
            error=np.array([line.ratio_error_percent / 100 / _NORMAL_95 for line in measurements]),
            reference_ms=reference_ms,
        )

    @property
    def base_ms(self) -> Array:
        assert self.table.base_ms is not None
        return self.table.base_ms

    def rows(self, wanted: NDArray[np.bool_]) -> _Data:
        table = self.table[np.flatnonzero(wanted)]
        return replace(self, table=table, ms=self.ms[wanted], error=self.error[wanted])


@dataclass(frozen=True)
class _Candidate:
    """A way to predict; `on_base`: what it fits is the factor on the source's prediction."""

    fit: Fit
    on_base: bool

    def predict(self, data: _Data, table: Table) -> tuple[Array, Array]:
        """Times of the subnets in `table` and their relative standard errors, fitted to `data`."""
        if not self.on_base:
            return self.fit(data.table, data.ms, data.error).predict(table)
        assert table.base_ms is not None
        factor, error = self.fit(data.table, data.ms / data.base_ms, data.error).predict(table)
        return factor * table.base_ms, error


def _candidates() -> Mapping[str, _Candidate]:
    """All that are compared, those with few parameters first."""
    return {
        **{name: _Candidate(fit, on_base=True) for name, fit in CORRECTIONS.items()},
        **{_afresh(name): _Candidate(PREDICTORS[name], on_base=False) for name in _FRESH},
        **{name: _Candidate(fit, on_base=False) for name, fit in BASELINES.items()},
    }


def _afresh(kind: str) -> str:
    return f"{AFRESH} {kind}"


def _left_out(candidate: _Candidate, data: _Data) -> tuple[Array, Array]:
    """What is predicted for each measurement from the other folds, and the standard errors: (n,), (n,)."""
    ms, error = np.zeros(len(data.ms)), np.zeros(len(data.ms))
    # Neighbours in time of measuring and in latency go to different folds.
    fold = np.argsort(np.argsort(data.ms, kind="stable"), kind="stable") % min(_FOLDS, len(data.ms))
    for own in range(int(fold.max()) + 1):
        test = fold == own
        ms[test], error[test] = candidate.predict(data.rows(~test), data.rows(test).table)
    return ms, error
