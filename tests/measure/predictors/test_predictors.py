"""What holds of every kind of predictor; each is judged by laws that it did not make."""

from __future__ import annotations

import numpy as np
import pytest
from measure.latency_cases import configs, law, layers_of

from bnas.measure.features import tabulate
from bnas.measure.predictors import BASELINES, PREDICTORS, Fitted
from bnas.plain import from_plain, to_plain

ALL = {**PREDICTORS, **BASELINES}
TRAIN, TEST = configs(60), configs(60, seed=11)
TABLE = tabulate([layers_of(own) for own in TRAIN], signatures=True)
OTHERS = tabulate([layers_of(own) for own in TEST], TABLE.names, signatures=True)
MS, OTHERS_MS = np.array([law(own) for own in TRAIN]), np.array([law(own) for own in TEST])
NONE = np.zeros(len(MS))


@pytest.fixture(scope="module", params=ALL)
def fitted(request: pytest.FixtureRequest) -> Fitted:
    return ALL[request.param](TABLE, MS, NONE)


def test_it_is_as_good_as_its_kind_can_be(fitted: Fitted) -> None:
    most = {
        "gaussian_process": 0.002,
        "ridge": 0.002,
        "mlp": 0.02,
        "boosting": 0.05,
        "lookup": 0.15,
        "macs_line": 0.25,
    }
    ms, error = fitted.predict(OTHERS)
    assert np.abs(ms / OTHERS_MS - 1).mean() < most[to_plain(fitted)["kind"]]
    assert ms.shape == error.shape == (60,)
    assert (error > 0).all()


def test_it_is_plain_data(fitted: Fitted) -> None:
    read = from_plain(Fitted, to_plain(fitted))
    assert read == fitted
    for a, b in zip(read.predict(OTHERS), fitted.predict(OTHERS), strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_predicts_one_as_among_many(fitted: Fitted) -> None:
    whole = fitted.predict(OTHERS)
    alone = [fitted.predict(OTHERS[np.array([row])]) for row in range(60)]
    np.testing.assert_array_equal(whole[0], [ms[0] for ms, _ in alone])
    np.testing.assert_array_equal(whole[1], [error[0] for _, error in alone])


@pytest.mark.parametrize("kind", ALL)
def test_a_fit_follows_from_the_measurements_alone(kind: str) -> None:
    np.random.default_rng(5).random(10)
    assert to_plain(ALL[kind](TABLE, MS, NONE)) == to_plain(ALL[kind](TABLE, MS, NONE))


@pytest.mark.parametrize("kind", ALL)
def test_times_have_no_unit(kind: str) -> None:
    seconds = ALL[kind](TABLE, MS / 1000, NONE).predict(OTHERS)
    ms = ALL[kind](TABLE, MS, NONE).predict(OTHERS)
    np.testing.assert_allclose(1000 * seconds[0], ms[0], rtol=0.05)


@pytest.mark.parametrize("kind", ALL)
def test_subnets_that_are_all_alike_are_no_reason_to_fail(kind: str) -> None:
    same = TABLE[np.zeros(5, dtype=np.intp)]
    ms, error = ALL[kind](same, np.full(5, 2.0), np.zeros(5)).predict(same)
    np.testing.assert_allclose(ms, 2.0, rtol=1e-3)
    assert np.isfinite(error).all()


@pytest.mark.parametrize("kind", ALL)
def test_predictions_stay_above_zero_far_from_the_data(kind: str) -> None:
    own = tabulate([layers_of(configs(1)[0])[:1]], TABLE.names, signatures=True)
    assert ALL[kind](TABLE, MS, NONE).predict(own)[0][0] > 0


@pytest.mark.parametrize("kind", ["gaussian_process", "ridge", "boosting", "mlp"])
def test_noise_is_not_learnt(kind: str) -> None:
    noisy = MS * np.exp(0.03 * np.random.default_rng(2).standard_normal(len(MS)))
    ms, _ = PREDICTORS[kind](TABLE, noisy, np.full(len(MS), 0.03)).predict(OTHERS)
    assert np.abs(ms / OTHERS_MS - 1).mean() < {"boosting": 0.06, "mlp": 0.03}.get(kind, 0.015)
