"""A Gaussian posterior over the values of subnets, given its kernel: what all surrogates are in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bnas.search.algorithms.linas.surrogates.encoding import Array, Features

Kernel = Callable[[Features, Features], Array]
"""[m, n] covariances between the values of m and of n subnets, in units of the noise's variance."""
Diagonal = Callable[[Features], Array]
"""[m] the variance of each by itself."""

_LEAST = 1e-6  # standard error, as a share of the spread of the values, that a surrogate claims at least


@dataclass(frozen=True, eq=False, kw_only=True)
class Surrogate:
    """Predicts one value of subnets (Rasmussen & Williams 2006, eqs. 2.25 and 2.26).

    `left_out` [n]: predicted minus found, each evaluated subnet predicted from all others (eq. 5.12), in the
    value's unit. `scale`: of all standard errors, such that the squares of the errors left out are on average what the
    surrogate says of them (calibration). `noise`: the standard deviation of what the features do not tell, in an
    evaluation as exact as the best so far.
    """

    kind: str
    kernel: Kernel
    diagonal: Diagonal
    seen: Features
    middle: float
    weights: Array  # [n]
    root: Array  # [n, n], the inverse of the Cholesky factor of the covariance
    scale: float
    noise: float
    left_out: Array

    def predict(self, features: Features, *, noisy: bool = True) -> tuple[Array, Array]:
        """[m] values and [m] standard errors: of what evaluations will find, or of what is behind the noise."""
        near = self.kernel(features, self.seen)
        known = ((near @ self.root.T) ** 2).sum(axis=1)
        unknown = np.maximum(self.diagonal(features) - known, 0.0)
        noise = self.noise if noisy else 0.0
        return self.middle + near @ self.weights, np.sqrt(self.scale**2 * unknown + noise**2)

    def joint(self, features: Features) -> tuple[Array, Array]:
        """[m] values and their [m, m] covariance, without noise."""
        near = self.kernel(features, self.seen)
        known = near @ self.root.T
        covariance = self.kernel(features, features) - known @ known.T
        return self.middle + near @ self.weights, self.scale**2 * covariance


def posterior(
    kind: str, kernel: Kernel, diagonal: Diagonal, seen: Features, values: Array, noises: Array
) -> Surrogate:
    """The posterior given `values` [n] with noise of the variances `noises` [n], relative to what is usual.

    The one scale of all variances is that which makes the errors left out as large as expected.
    """
    middle = float(values.mean())
    away = values - middle
    root = inverse_root(kernel(seen, seen) + np.diag(noises))
    inverse_diagonal = (root**2).sum(axis=0)
    weights = root.T @ (root @ away)
    left_out = -weights / inverse_diagonal
    variance = float(np.mean(weights**2 / inverse_diagonal))
    scale = max(float(np.sqrt(variance)), _LEAST * float(np.std(values)), 1e-12)
    return Surrogate(
        kind=kind,
        kernel=kernel,
        diagonal=diagonal,
        seen=seen,
        middle=middle,
        weights=weights,
        root=root,
        scale=scale,
        noise=scale * float(np.sqrt(noises.min())),
        left_out=left_out,
    )


def inverse_root(covariance: Array) -> Array:
    """The inverse of the lower Cholesky factor [n, n]."""
    return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)))
