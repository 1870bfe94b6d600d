"""A Gaussian process whose kernel adds up over what may matter (Rasmussen & Williams 2006, §5.4.1).

The parts: each choice, linear and bent; pairs of choices (the additive kernel of second degree, Duvenaud et al. 2011,
eq. 8); the means over choices that belong together, linear and with saturation; what is known of a subnet's size; and
that subnets which are alike in all choices have like values. How much there is of each is found by the marginal
likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnas.search.algorithms.linas.surrogates.encoding import Array, Features, Standardized
from bnas.search.algorithms.linas.surrogates.posterior import Surrogate, posterior

CONSTANT = 1e4  # variance of the constant, in those of the noise
MOST = 300  # subnets that the marginal likelihood is computed on
NEAR = 0.5  # the root mean square distance of positions at which subnets are still alike
# The parts, and at which variance of each, in those of the noise, the search for the best begins.
PARTS = {
    "size": 30.0,
    "saturation": 30.0,
    "choices": 10.0,
    "bends": 3.0,
    "pairs": 1.0,
    "alike": 3.0,
    "groups": 10.0,
    "groups alike": 3.0,
}
_KNOWN = 1.0  # the same for errors that evaluations tell of themselves
_STRIDES = (
    16.0,
    4.0,
    4.0,
    2.0,
    2.0,
)  # by which variances are multiplied or divided, one at a time, sweep after sweep
_WIDTH = 2.0  # of the logarithm of a variance around where it begins


def fit_gaussian_process(features: Features, values: Array, errors: Array) -> Surrogate:
    """The weights of the parts by the marginal likelihood, then the posterior."""
    parts = _Parts(features)
    measured = errors**2 / max(float(np.mean(errors**2)), 1e-300)
    some = np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST)).round().astype(np.int64))
    kernels = [*parts.between(features[some], features[some]), np.diag(measured[some])]
    weights = _weights(kernels, values[some])
    own, noises = weights[:-1], 1.0 + weights[-1] * measured

    def kernel(a: Features, b: Features) -> Array:
        return CONSTANT + _sum(own, parts.between(a, b))

    def diagonal(a: Features) -> Array:
        return CONSTANT + _sum(own, parts.alone(a))

    return posterior("gaussian_process", kernel, diagonal, features, values, noises)


class _Parts:
    """The kernels, each with a mean of 1 over the diagonal of the subnets evaluated."""

    def __init__(self, seen: Features) -> None:
        self._totals, self._groups = Standardized(seen.totals), Standardized(seen.groups)
        self._norms = [1.0] * len(PARTS)
        self._norms = [max(float(own.mean()), 1e-9) for own in self.alone(seen)]

    def between(self, a: Features, b: Features) -> list[Array]:
        """As many matrices [m, n] as there are parts."""
        x, y = self._totals(a.totals), self._totals(b.totals)
        g, h = self._groups(a.groups), self._groups(b.groups)
        choices = a.positions @ b.positions.T
        squares = a.positions**2 @ (b.positions**2).T
        found = [
            x @ y.T,
            _near(x, y, 1.0),
            choices,
            a.levels @ b.levels.T,
            (choices**2 - squares) / 2,
            _near(a.positions, b.positions, NEAR),
            g @ h.T,
            _near(g, h, 1.0),
        ]
        return [own / norm for own, norm in zip(found, self._norms, strict=True)]

    def alone(self, a: Features) -> list[Array]:
        """Their diagonals, each [m]."""
        ones = np.ones(len(a))
        choices = (a.positions**2).sum(axis=1)
        found = [
            (self._totals(a.totals) ** 2).sum(axis=1),
            ones,
            choices,
            (a.levels**2).sum(axis=1),
            (choices**2 - (a.positions**4).sum(axis=1)) / 2,
            ones,
            (self._groups(a.groups) ** 2).sum(axis=1),
            ones,
        ]
        return [own / norm for own, norm in zip(found, self._norms, strict=True)]


def _near(a: Array, b: Array, width: float) -> Array:
    """The squared exponential of the root mean square distance between rows."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.exp(-np.maximum(squares, 0) / (2 * width**2 * max(1, a.shape[1]))))


def _sum(weights: Array, parts: Sequence[Array]) -> Array:
    total = weights[0] * parts[0]
    for weight, part in zip(weights[1:], parts[1:], strict=True):
        total = total + weight * part
    return np.asarray(total)


def _weights(kernels: Sequence[Array], values: Array) -> Array:
    """Variances of the parts, in those of the noise, where the marginal likelihood is largest.

    The noise's own variance is the one that fits best (R&W eq. 5.8, maximised over the common factor). A
    search over a grid takes the same way where processors round differently.
    """
    away = values - values.mean()
    n = len(away)
    # The Cholesky factor's last row is then the inverse of the factor of the covariance, times the values.
    bordered = np.zeros((n + 1, n + 1))
    bordered[n, :n] = bordered[:n, n] = away
    bordered[n, n] = away @ away + 1.0
    starts = np.log(np.array((*PARTS.values(), _KNOWN)))

    def likelihood(covariance: Array, logs: Array) -> float:
        bordered[:n, :n] = covariance
        factor = np.linalg.cholesky(bordered)
        fit = float(factor[n, :n] @ factor[n, :n]) / n
        prior = float((((logs - starts) / _WIDTH) ** 2).sum()) / 2
        return -n / 2 * float(np.log(fit + 1e-300)) - float(np.log(np.diag(factor)[:n]).sum()) - prior

    logs = starts.copy()
    covariance = CONSTANT + np.eye(n) + _sum(np.exp(logs), kernels)
    best = likelihood(covariance, logs)
    moving = [place for place, kernel in enumerate(kernels) if kernel.any()]
    for stride in _STRIDES:
        for place in moving:
            for step in (stride, 1 / stride):
                moved = logs.copy()
                moved[place] += np.log(step)
                tried = covariance + (np.exp(moved[place]) - np.exp(logs[place])) * kernels[place]
                value = likelihood(tried, moved)
                if value > best + 1e-6:
                    best, logs, covariance = value, moved, tried
                    break
    return np.asarray(np.exp(logs))
