from __future__ import annotations

from dataclasses import replace

import numpy as np
from measure.latency_cases import configs, law, layers_of

from bnas.measure.features import KINDS, Table, tabulate
from bnas.measure.predictors.gaussian_process import GaussianProcess, fit_gaussian_process


def fit(count: int, noise: float = 0.0) -> tuple[GaussianProcess, Table, np.ndarray]:
    own = configs(count)
    table = tabulate([layers_of(config) for config in own])
    rng = np.random.default_rng(0)
    ms = np.array([law(config) for config in own]) * np.exp(noise * rng.standard_normal(count))
    return fit_gaussian_process(table, ms, np.full(count, noise)), table, ms


def test_the_posterior_is_that_of_the_kernel() -> None:
    """By the textbook formula (Rasmussen & Williams 2006, eq. 2.25-2.26), with the fitted prior and noise."""
    fitted, table, _ = fit(12, noise=0.02)
    features = fitted.inputs.of(table)
    prior = features * np.array(fitted.deviations)
    other = fitted.inputs.of(tabulate([layers_of(own) for own in configs(20, seed=8)], table.names))
    other_prior = other * np.array(fitted.deviations)
    mean, error = fitted.predict(tabulate([layers_of(own) for own in configs(20, seed=8)], table.names))
    # The noise is not kept in parts: it follows from what the fit makes of the measurements themselves.
    across = other_prior @ prior.T
    kernel = prior @ prior.T
    narrower = np.array(fitted.narrower)
    known = ((other @ narrower.T) ** 2).sum(axis=1)
    alpha = np.linalg.lstsq(kernel, features @ np.array(fitted.coefficients), rcond=1e-12)[0]
    np.testing.assert_allclose(across @ alpha, mean, rtol=1e-3)
    variance = np.maximum((other_prior**2).sum(axis=1) - known, 0)
    np.testing.assert_allclose(error, np.sqrt(fitted.noise**2 + variance / mean**2), rtol=1e-9)
    assert (known <= (other_prior**2).sum(axis=1) * (1 + 1e-9)).all()


def test_it_is_surer_where_it_has_measured() -> None:
    fitted, table, _ = fit(15, noise=0.01)
    depthwise = np.arange(len(KINDS)) == KINDS.index("depthwise")
    far = replace(table, sums=np.where(depthwise[:, None], 40, 1) * table.sums)
    assert np.median(fitted.predict(far)[1]) > 2 * np.median(fitted.predict(table)[1])


def test_noise_is_found() -> None:
    for noise in (0.01, 0.04):
        fitted, table, ms = fit(120, noise)
        spread = np.std(np.log(ms / fitted.predict(table)[0]))
        assert 0.6 * noise < spread < 1.2 * noise


def test_more_measurements_make_it_surer() -> None:
    errors = []
    for count in (8, 80):
        fitted, table, _ = fit(count, noise=0.02)
        others = tabulate([layers_of(own) for own in configs(30, seed=8)], table.names)
        errors.append(float(np.median(fitted.predict(others)[1])))
    assert errors[1] < errors[0]
