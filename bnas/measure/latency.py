"""Predicting a subnet's latency from facts about its layers, fitted on what was measured.

Ridge regression on sums over the layers. The error that counts is relative, so each measurement is weighted
by 1 / its latency; the penalty is chosen by leave-one-out, which ridge has in closed form.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

import numpy as np
from numpy.typing import NDArray

from bnas.errors import MeasureError
from bnas.measure.campaign import Measurement
from bnas.measure.hardware import Hardware
from bnas.space import LayerCost, SubnetConfig

MIN_MEASUREMENTS = 4
_ALPHAS = np.logspace(-8, 2, 31)
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LatencyModel:
    """latency_ms = intercept + Σ coefficient × (feature − mean) / scale.

    The figures are what the same kind of model, fitted without `held_out` of the `samples` measurements,
    makes of those: mean absolute percentage error, how many per cent are within 5 and 10 % of the
    measurement, Kendall's tau-b; beside it the error of a straight line through the MACs fitted on the same.
    `cross_validated_mape_percent` is leave-one-out over all. The coefficients are fitted on all. Times are
    in milliseconds of a moment when the reference took `reference_ms`.
    """

    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    alpha: float
    samples: int
    held_out: int
    mape_percent: float
    within_5_percent: float
    within_10_percent: float
    kendall_tau: float
    macs_line_mape_percent: float
    cross_validated_mape_percent: float
    reference_ms: float
    precision: str
    threads: int
    batch: int
    hardware: Hardware


def fit_latency(
    measurements: Sequence[Measurement],
    costs: Callable[[SubnetConfig], Sequence[LayerCost]],
    *,
    holdout: int = 8,
) -> LatencyModel:
    """A predictor fitted on `measurements`, with its error on the last `holdout` of them, held out.

    The target is ratio × the reference's median latency over the campaign: what the subnet would have taken,
    had the machine kept its speed. At most a third of the measurements is held out.

    Raises:
        MeasureError: fewer than four measurements.
    """
    if len(measurements) < MIN_MEASUREMENTS:
        raise MeasureError(
            f"{len(measurements)} subnets are measured; a latency predictor needs {MIN_MEASUREMENTS} or more "
            "(measure.samples, or a larger search space)"
        )
    reference_ms = median(line.reference_ms for line in measurements)
    latency = np.array([line.ratio * reference_ms for line in measurements])
    table = [features(costs(line.config)) for line in measurements]
    names = tuple(sorted({name for row in table for name in row}))
    x = np.array([[row.get(name, 0.0) for name in names] for row in table])
    macs = x[:, [names.index("macs")]]
    held_out = max(1, min(holdout, len(measurements) // 3))
    train, test = slice(None, -held_out), slice(-held_out, None)
    predicted = _fit(x[train], latency[train]).predict(x[test])
    line = _fit(macs[train], latency[train], alphas=[0.0]).predict(macs[test])
    errors = np.abs(predicted / latency[test] - 1)
    fit = _fit(x, latency)
    first = measurements[0]
    return LatencyModel(
        features=names,
        means=tuple(fit.means.tolist()),
        scales=tuple(fit.scales.tolist()),
        coefficients=tuple(fit.coefficients.tolist()),
        intercept=fit.intercept,
        alpha=fit.alpha,
        samples=len(measurements),
        held_out=held_out,
        mape_percent=float(100 * errors.mean()),
        within_5_percent=float(100 * (errors <= 0.05).mean()),
        within_10_percent=float(100 * (errors <= 0.10).mean()),
        kendall_tau=kendall_tau(predicted, latency[test]),
        macs_line_mape_percent=float(100 * np.abs(line / latency[test] - 1).mean()),
        cross_validated_mape_percent=100 * fit.left_out_error,
        reference_ms=reference_ms,
        precision=first.precision,
        threads=first.threads,
        batch=first.batch,
        hardware=first.hardware,
    )


def predict_ms(model: LatencyModel, layers: Sequence[LayerCost]) -> float:
    """Predicted latency in milliseconds of the subnet with these layers."""
    values = features(layers)
    return model.intercept + sum(
        coefficient * (values.get(name, 0.0) - mean) / scale
        for name, mean, scale, coefficient in zip(
            model.features, model.means, model.scales, model.coefficients, strict=True
        )
    )


def features(layers: Sequence[LayerCost]) -> Mapping[str, float]:
    """Sums over the layers of one subnet: MACs, MACs as the kernels do them, elements moved, and layers.

    A kernel takes inputs by 4 (one INT8 dot product) and outputs by its vector width, 16, or by a block of
    several vectors, 64: a layer of 17 channels costs as much as one of 32.
    """
    sums: dict[str, float] = defaultdict(float, macs=0.0)
    for layer in layers:
        if layer.kind.endswith("norm"):  # folds into the convolution before it
            continue
        depthwise = 1 < layer.groups == layer.inputs
        sums["macs"] += layer.macs
        sums["macs.depthwise"] += layer.macs if depthwise else 0
        for block in (16, 64):
            inputs = layer.inputs // layer.groups
            sums[f"macs.padded_to_{block}"] += (
                layer.macs * _padding(inputs, 1 if depthwise else 4) * _padding(layer.outputs, block)
            )
        sums["elements"] += layer.weights + (layer.inputs + layer.outputs) * layer.positions
        sums["layers"] += 1
    return dict(sums)


def kendall_tau(a: Array, b: Array) -> float:
    """Kendall's tau-b of two rankings: 1 the same order, −1 the opposite, 0 none (or one is constant)."""
    left = np.sign(np.subtract.outer(a, a))
    right = np.sign(np.subtract.outer(b, b))
    norm = np.sqrt((left**2).sum() * (right**2).sum())
    return float((left * right).sum() / norm) if norm else 0.0


def _padding(size: int, block: int) -> float:
    return ceil(size / block) * block / size


@dataclass(frozen=True)
class _Fit:
    means: Array
    scales: Array
    coefficients: Array
    intercept: float
    alpha: float
    left_out_error: float

    def predict(self, x: Array) -> Array:
        return self.intercept + (x - self.means) / self.scales @ self.coefficients


def _fit(x: Array, latency: Array, alphas: Sequence[float] | Array = _ALPHAS) -> _Fit:
    """Ridge with the penalty whose leave-one-out relative error is least; the intercept is not penalised."""
    means, scales = x.mean(axis=0), x.std(axis=0)
    scales = np.where(scales > 1e-12 * np.abs(means).max(initial=1.0), scales, 1.0)
    rows = np.column_stack([np.ones(len(x)), (x - means) / scales]) / latency[:, None]
    target = np.ones(len(x))
    best: tuple[float, float, Array] | None = None
    # Sums term by term in Python's own floats: BLAS may add in another order the next time, and a search that
    # goes on must predict the very numbers it predicted before.
    exact = rows.astype(object)
    products, towards = exact.T @ exact, (exact.T @ target.astype(object)).astype(float)
    for alpha in alphas:
        penalty = alpha * len(x) / median(latency) ** 2 * np.eye(rows.shape[1])
        penalty[0, 0] = 0.0
        inverse = _inverse((products + penalty).astype(float).tolist())
        weights = (inverse * towards).sum(axis=1)
        leverage = ((rows[:, None, :] * inverse[None]).sum(axis=2) * rows).sum(axis=1)
        left_out = (target - rows @ weights) / np.maximum(1 - leverage, 1e-9)
        error = float(np.abs(left_out).mean())
        if best is None or error < best[0]:
            best = error, float(alpha), weights
    assert best is not None
    error, alpha, weights = best
    return _Fit(means, scales, weights[1:], float(weights[0]), alpha, error)


def _inverse(matrix: list[list[float]]) -> Array:
    """The inverse of a symmetric positive matrix by Gauss-Jordan elimination; 0 for directions without any."""
    size = len(matrix)
    rows = [[*row, *(float(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    largest = max(abs(row[i]) for i, row in enumerate(matrix))
    for i in range(size):
        pivot = rows[i][i]
        if abs(pivot) <= 1e-13 * largest:
            rows[i] = [0.0] * (2 * size)
            continue
        rows[i] = [value / pivot for value in rows[i]]
        for j in range(size):
            if j != i and rows[j][i]:
                factor = rows[j][i]
                rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
    return np.array([row[size:] for row in rows])
