"""The posterior against the textbook's formulae, and what it says of subnets left out against leaving them out."""

from __future__ import annotations

import numpy as np
import pytest

from bnas.search.algorithms.linas.surrogates import Encoding, fit_gaussian_process, fit_ridge
from bnas.search.algorithms.linas.surrogates.posterior import posterior


@pytest.fixture
def features(make_problem):
    codes = np.random.default_rng(0).integers(5, size=(30, 6))
    return Encoding(make_problem(*[5] * 6)).of(codes, np.zeros((30, 0)))


def kernel(a, b):
    return 5.0 * (1 + a.positions @ b.positions.T)


def diagonal(a):
    return 5.0 * (1 + (a.positions**2).sum(axis=1))


def _fitted(features, values):
    return posterior("linear", kernel, diagonal, features, values, np.ones(len(values)))


def test_is_the_textbooks(features):
    values = np.random.default_rng(1).normal(size=30)
    seen, new = features[np.arange(20)], features[np.arange(20, 30)]
    own = _fitted(seen, values[:20])
    inverse = np.linalg.inv(kernel(seen, seen) + np.eye(20))
    near = kernel(new, seen)
    mean = values[:20].mean() + near @ inverse @ (values[:20] - values[:20].mean())
    variance = kernel(new, new) - near @ inverse @ near.T
    found, error = own.predict(new)
    np.testing.assert_allclose(found, mean)
    np.testing.assert_allclose(error, own.noise * np.sqrt(np.diag(variance) + 1))
    np.testing.assert_allclose(own.predict(new, noisy=False)[1], own.noise * np.sqrt(np.diag(variance)))
    again, covariance = own.joint(new)
    np.testing.assert_allclose(again, mean)
    np.testing.assert_allclose(covariance, own.noise**2 * variance)


def test_what_is_left_out_is_foretold_as_if_it_had_never_been_seen(features):
    values = np.random.default_rng(2).normal(size=30)
    own = _fitted(features, values)
    # The same constant is taken off before: with it, not with that of the others, the formula is exact.
    for out in (0, 7, 29):
        others = np.delete(np.arange(30), out)
        rest = features[others]
        away = values[others] - values.mean()
        near = kernel(features[np.array([out])], rest)[0]
        foretold = values.mean() + near @ np.linalg.solve(kernel(rest, rest) + np.eye(29), away)
        assert own.left_out[out] == pytest.approx(foretold - values[out])


def test_errors_are_scaled_to_those_left_out(features):
    values = 100 * np.random.default_rng(3).normal(size=30)
    own = _fitted(features, values)
    assert own.noise == own.scale
    z = []
    for out in range(30):
        others = np.delete(np.arange(30), out)
        one = features[np.array([out])]
        near = kernel(one, features[others])[0]
        inverse = np.linalg.inv(kernel(features[others], features[others]) + np.eye(29))
        z.append(own.left_out[out] / (own.noise * np.sqrt(diagonal(one)[0] - near @ inverse @ near + 1)))
    assert np.mean(np.square(z)) == pytest.approx(1.0)


@pytest.mark.parametrize("fit", [fit_ridge, fit_gaussian_process])
def test_equal_values_are_no_trouble(features, fit):
    own = fit(features, np.full(30, 3.0), np.zeros(30))
    value, error = own.predict(features)
    np.testing.assert_allclose(value, 3.0)
    assert (error >= 0).all()
    assert np.isfinite(error).all()
