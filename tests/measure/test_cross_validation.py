from __future__ import annotations

import numpy as np
import pytest
from measure.latency_cases import campaign, law, layers_of, measured

from bnas.measure.cross_validation import Samples, best_kind, bounds_of, cross_validated, spread_of
from bnas.measure.predictors import PREDICTORS


def test_what_is_predicted_was_not_fitted_to() -> None:
    lines = campaign(20)
    spoilt = [
        measured(own.config, 2 * own.ratio if index == 7 else own.ratio) for index, own in enumerate(lines)
    ]
    ms, _ = cross_validated(Samples.of(spoilt, layers_of), PREDICTORS["ridge"])
    assert ms[7] < 1.5 * law(lines[7].config)


def test_the_spread_holds_what_it_promises() -> None:
    residuals = np.exp(np.linspace(0.001, 0.1, 100))
    ones = np.ones(100)
    assert spread_of(ones, 0.1 * ones, residuals) == pytest.approx(0.096 / 0.1)  # the 96th of 100
    assert spread_of(ones[:5], 0.1 * ones[:5], residuals[:5]) == 2.0  # too few to tell


def test_error_bars_stay_finite() -> None:
    """Of four noisy timings the spread can be in the millions."""
    low, high = bounds_of(np.array([2.0, 2.0]), np.array([0.1, 0.5]), 1e7)
    assert low.tolist() == pytest.approx([2e-6, 2e-6])
    assert high.tolist() == pytest.approx([2e6, 2e6])
    low, high = bounds_of(np.array([2.0]), np.array([0.1]), 3.0)
    assert (low[0] * high[0], high[0]) == pytest.approx((4.0, 2 * np.exp(0.3)))


def test_the_first_kind_is_kept_unless_another_is_clearly_better() -> None:
    rng = np.random.default_rng(0)
    first = 1 + 0.2 * rng.standard_normal(25)
    level = first - 0.01 + 0.2 * rng.standard_normal(25)  # better by a quarter of a standard error
    better = first - 0.2 + 0.2 * rng.standard_normal(25)
    assert best_kind({"a": first, "b": level}) == "a"
    assert best_kind({"a": first, "b": level, "c": better}) == "c"
