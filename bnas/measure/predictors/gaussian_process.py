"""A Gaussian process whose kernel adds up over layers (Rasmussen & Williams 2006, §2.2 and §5.4.1).

The time of a subnet is a sum over its layers, so most of the kernel is linear: in the MACs, in the sums over all
layers, over those of each kind, and in the terms of each single layer by its name. A squared exponential of the
logarithms of the sums takes what is not a sum, as caches that overflow. How much of each there is, and how large the
noise, relative to the time, is found by the marginal likelihood: with few measurements it is a line, with many a
table of layers. The posterior is kept as a linear model in explicit features, so that it is plain data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnas.measure.features import COLUMNS, TERMS, Table, layer_columns
from bnas.measure.predictors.base import LEAST_ERROR, Array, Fitted, positive, row_sums

STEPS = 60  # of the ascent of the marginal likelihood
BUMPS = 40  # features that stand for the squared exponential
RANK = 24  # directions in which the posterior is narrower than the prior that are kept, the strongest
_WIDTH = 4.0  # of the logarithm of a prior weight, around where it begins
_PRIORS = (1.0, 0.1, 1e-3, 1e-3, 1e-3, 1e-4)  # constant, MACs, totals, kinds, layers, bumps
_NOISES = (1e-4, 1e-4)  # variance of the same relative noise for all; of that which timing tells


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """How a table becomes the features of the linear model, (n, F).

    Of each part of the table's columns those are taken, by name, that differ among the subnets fitted to: of
    `COLUMNS` as `columns`, and their logarithms as `logs`, of `layer_columns` as `layers`. Bumps are at `centres`
    (subnets, logs).
    """

    columns: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    layers: tuple[str, ...]
    layer_means: tuple[float, ...]
    layer_scales: tuple[float, ...]
    logs: tuple[str, ...]
    log_means: tuple[float, ...]
    log_scales: tuple[float, ...]
    centres: tuple[tuple[float, ...], ...]
    bumps: tuple[tuple[float, ...], ...]
    sizes: tuple[int, ...]  # of the parts, in the order of `_PRIORS`

    @cached_property
    def _arrays(self) -> tuple[Array, ...]:
        return tuple(
            np.array(own, dtype=np.float64)
            for own in (
                self.means, self.scales, self.layer_means, self.layer_scales, self.log_means, self.log_scales,
                self.centres, self.bumps,
            )
        )  # fmt: skip

    def of(self, table: Table) -> Array:
        """(n, F) features, the parts side by side."""
        means, scales, layer_means, layer_scales, log_means, log_scales, centres, bumps = self._arrays
        columns = table.columns
        layers = table.layer_columns[:, _places(self.layers, layer_columns(table.names))]
        parts = [
            np.ones((len(table), 1)),
            (columns[:, _places(self.columns, COLUMNS)] - means) / scales,
            (layers - layer_means) / layer_scales,
        ]
        if len(bumps):
            x = (np.log1p(columns[:, _places(self.logs, COLUMNS)]) - log_means) / log_scales
            distances = row_sums((x[:, None, :] - centres) ** 2) / max(1, x.shape[1])
            near = np.exp(-distances / 2)
            parts.append(row_sums(near[:, None, :] * bumps.T))
        return np.hstack(parts)


@dataclass(frozen=True, kw_only=True)
class GaussianProcess(Fitted):
    """time = Σ coefficient × feature, with the variance Σ (deviation × feature)² − Σ (narrower · feature)².

    `deviations` (F,) are the prior's, in milliseconds; `narrower` (RANK, F) is by how much the measurements have
    narrowed it. `shares` are the parts' portions of the variance among the measurements. `noise`: relative.
    """

    kind: Literal["gaussian_process"] = "gaussian_process"
    inputs: Inputs
    coefficients: tuple[float, ...]
    deviations: tuple[float, ...]
    narrower: tuple[tuple[float, ...], ...]
    noise: float
    least_ms: float

    @cached_property
    def _arrays(self) -> tuple[Array, Array, Array]:
        return np.array(self.coefficients), np.array(self.deviations), np.array(self.narrower)

    def predict(self, table: Table) -> tuple[Array, Array]:
        coefficients, deviations, narrower = self._arrays
        features = self.inputs.of(table)
        ms = positive(row_sums(features * coefficients), self.least_ms)
        prior = row_sums((features * deviations) ** 2)
        known = np.zeros(len(ms))
        for direction in narrower:
            known += row_sums(features * direction) ** 2
        return ms, np.sqrt(self.noise**2 + np.maximum(prior - known, 0) / ms**2)


def fit_gaussian_process(table: Table, ms: Array, error: Array) -> GaussianProcess:
    """Prior weights and noise by the marginal likelihood of the relative times; then the posterior."""
    inputs = _inputs(table)
    features = inputs.of(table)
    relative = features / ms[:, None]
    ends = np.cumsum((0, *inputs.sizes))
    parts = [relative[:, a:b] for a, b in pairwise(ends)]
    # Each part has the same weight at the outset: its kernel's mean over the diagonal is the square of the time.
    strength = [float(np.mean((features[:, a:b] ** 2).sum(axis=1))) or 1.0 for a, b in pairwise(ends)]
    level = float(np.median(ms)) ** 2
    kernels = [level / own * part @ part.T for part, own in zip(parts, strength, strict=True)]
    timing = float(np.mean(error**2))
    kernels += [np.eye(len(ms)), np.diag(error**2 / timing) if timing > 0 else np.zeros((len(ms), len(ms)))]
    starts = np.log(np.array((*_PRIORS, *_NOISES[:1], timing or 1e-12)))
    logs = _ascend(kernels, np.ones(len(ms)), starts)
    weights = np.exp(logs)
    covariance = sum(weight * kernel for weight, kernel in zip(weights, kernels, strict=True))
    variances = np.repeat(
        weights[: len(parts)] * level / np.array(strength), np.array(inputs.sizes, dtype=np.intp)
    )
    root = np.linalg.inv(np.linalg.cholesky(covariance))
    alpha = root.T @ (root @ np.ones(len(ms)))
    whitened = (root @ relative) * variances  # (n, F): its square is what the posterior is narrower by
    _, singular, directions = np.linalg.svd(whitened / np.sqrt(variances), full_matrices=False)
    narrower = (singular[:RANK, None] * directions[:RANK]) * np.sqrt(variances)
    return GaussianProcess(
        names=table.names,
        inputs=inputs,
        coefficients=tuple((variances * (relative.T @ alpha)).tolist()),
        deviations=tuple(np.sqrt(variances).tolist()),
        narrower=tuple(tuple(float(f"{value:.6g}") for value in row) for row in narrower),
        noise=max(LEAST_ERROR, float(np.sqrt(weights[len(parts)]))),
        least_ms=float(ms.min() / 4),
    )


def _inputs(table: Table) -> Inputs:
    columns = table.columns
    means, scales = columns.mean(axis=0), columns.std(axis=0)
    differ = scales > 1e-9 * np.abs(columns).max(axis=0, initial=0.0)
    totals = [place for place in range(len(TERMS)) if differ[place]]
    kinds = [place for place in range(len(TERMS), len(COLUMNS)) if differ[place]]
    taken = [0, *totals, *kinds]  # the MACs once more alone: mostly it is a line
    layers, layer_names = table.layer_columns, layer_columns(table.names)
    # All layers' MACs have one scale, so that a large layer may matter more; likewise for each other term.
    term_scales = np.maximum(table.layers.mean(axis=(0, 1)), 1e-12)
    own = np.flatnonzero(layers.std(axis=0) > 1e-9 * np.abs(layers).max(axis=0, initial=0.0))
    logs = np.log1p(columns[:, totals])
    log_means, log_scales = logs.mean(axis=0), np.maximum(logs.std(axis=0), 1e-9)
    centres = (logs - log_means) / log_scales
    bumps = np.zeros((0, 0))
    if totals:
        kernel = np.exp(-((centres[:, None] - centres) ** 2).mean(axis=2) / 2)
        values, vectors = np.linalg.eigh(kernel)  # ascending
        kept = [place for place in range(len(values))[::-1] if values[place] > 1e-6 * values[-1]][:BUMPS]
        bumps = vectors[:, kept] / np.sqrt(values[kept])
    return Inputs(
        columns=tuple(COLUMNS[place] for place in taken),
        means=tuple(means[taken].tolist()),
        scales=tuple(np.where(differ, scales, 1.0)[taken].tolist()),
        layers=tuple(layer_names[place] for place in own),
        layer_means=tuple(layers.mean(axis=0)[own].tolist()),
        layer_scales=tuple(np.tile(term_scales, table.layers.shape[1])[own].tolist()),
        logs=tuple(COLUMNS[place] for place in totals),
        log_means=tuple(log_means.tolist()),
        log_scales=tuple(log_scales.tolist()),
        centres=tuple(tuple(row) for row in centres.tolist()) if totals else (),
        bumps=tuple(tuple(row) for row in bumps.tolist()),
        sizes=(1, 1, len(totals), len(kinds), len(own), bumps.shape[1] if totals else 0),
    )


@lru_cache(maxsize=100)
def _places(names: tuple[str, ...], among: tuple[str, ...]) -> NDArray[np.intp]:
    place = {name: index for index, name in enumerate(among)}
    return np.array([place[name] for name in names], dtype=np.intp)


def _ascend(kernels: Sequence[Array], target: Array, starts: Array) -> Array:
    """The logarithms of the kernels' weights at a maximum of the marginal likelihood, near `starts`.

    Steps have the sign of the gradient and adapt their lengths (iRprop−, Igel & Hüsken 2000).
    """
    logs, steps = starts.copy(), np.full(len(starts), 0.5)
    before = np.zeros(len(starts))
    best, found = -np.inf, logs.copy()
    for _ in range(STEPS):
        weights = np.exp(logs)
        covariance = sum(weight * kernel for weight, kernel in zip(weights, kernels, strict=True))
        covariance = covariance + 1e-10 * np.trace(covariance) / len(target) * np.eye(len(target))
        factor = np.linalg.cholesky(covariance)
        root = np.linalg.inv(factor)
        inverse = root.T @ root
        alpha = inverse @ target
        away = (logs - starts) / _WIDTH
        value = float(-0.5 * target @ alpha - np.log(np.diag(factor)).sum() - 0.5 * away @ away)
        if value > best:
            best, found = value, logs.copy()
        inner = np.outer(alpha, alpha) - inverse
        gradient = np.array(
            [0.5 * weight * np.sum(inner * kernel) for weight, kernel in zip(weights, kernels, strict=True)]
        )
        gradient -= away / _WIDTH
        turned = gradient * before < 0
        steps = np.clip(np.where(turned, 0.5 * steps, 1.2 * steps), 1e-3, 2.0)
        gradient[turned] = 0.0
        logs = np.clip(logs + steps * np.sign(gradient), starts - 16, starts + 16)
        before = gradient
    return found
