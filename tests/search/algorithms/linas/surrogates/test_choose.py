"""Surrogates on known truths: their order, their errors, and which of them is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bnas.rank import kendall_tau
from bnas.search.algorithms.linas.surrogates import SURROGATES, Encoding, best_surrogate, choose


@pytest.fixture
def draw(make_problem):
    """Features and codes of random subnets of a space of 10 choices of 4 values."""
    problem = make_problem(*[4] * 10)

    def drawn(count: int, seed: int):
        codes = np.random.default_rng(seed).integers(4, size=(count, 10))
        return Encoding(problem).of(codes, np.zeros((count, 0))), codes

    return drawn


@pytest.fixture
def accuracy(make_space, make_truth):
    space = make_space(*[4] * 10)
    truth = make_truth(space, 11)

    def of(codes):
        return np.array([truth(space.decode(code.tolist()))["top1_percent"] for code in codes])

    return of


@pytest.mark.parametrize("kind", SURROGATES)
def test_orders_unseen_subnets(draw, accuracy, kind):
    (seen, codes), (new, others) = draw(60, 0), draw(200, 1)
    own = SURROGATES[kind](seen, accuracy(codes), np.zeros(60))
    assert own.kind == kind
    assert kendall_tau(own.predict(new)[0], accuracy(others)) > 0.8


@pytest.mark.parametrize("kind", SURROGATES)
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_error_bars_cover(draw, accuracy, kind, noise):
    """Two standard errors hold about 95 % of what was not seen, whether it is noisy or not."""
    inside = []
    for seed in range(6):
        rng = np.random.default_rng([seed, 9])
        (seen, codes), (new, others) = draw(50, 2 * seed + 20), draw(200, 2 * seed + 21)
        own = SURROGATES[kind](seen, accuracy(codes) + noise * rng.normal(size=50), np.zeros(50))
        value, error = own.predict(new)
        inside.append(np.abs(value - accuracy(others) - noise * rng.normal(size=200)) <= 2 * error)
    assert 0.88 < np.mean(inside) < 0.995


def test_errors_are_smaller_where_more_is_known(draw, accuracy):
    (seen, codes), (new, _) = draw(60, 0), draw(200, 1)
    own = best_surrogate(seen, accuracy(codes))
    assert own.predict(seen)[1].mean() < 0.9 * own.predict(new)[1].mean()


def test_the_preferred_one_is_kept_unless_another_is_clearly_better(draw, monkeypatch):
    features, codes = draw(80, 3)
    values = codes @ np.arange(1.0, 11.0)

    def worse(share):
        def fit(features, values, errors):
            own = SURROGATES["ridge"](features, values, errors)
            rng = np.random.default_rng(0)
            return replace(
                own, kind="worse", left_out=own.left_out * (1 + share * rng.uniform(size=len(values)))
            )

        return fit

    monkeypatch.setattr(
        "bnas.search.algorithms.linas.surrogates.choose.SURROGATES",
        {"worse": worse(9.0), "ridge": SURROGATES["ridge"]},
    )
    assert best_surrogate(features, values).kind == "ridge"
    monkeypatch.setitem(choose.SURROGATES, "worse", worse(0.0))
    assert best_surrogate(features, values).kind == "worse"


def test_products_of_choices_need_a_gaussian_process(draw):
    features, codes = draw(150, 4)
    values = (codes[:, 0] - 1.5) * (codes[:, 1] - 1.5) + (codes[:, 2] - 1.5) * (codes[:, 3] - 1.5)
    own = best_surrogate(features, values)
    assert own.kind == "gaussian_process"
    new, others = draw(200, 5)
    truth = (others[:, 0] - 1.5) * (others[:, 1] - 1.5) + (others[:, 2] - 1.5) * (others[:, 3] - 1.5)
    assert np.corrcoef(own.predict(new)[0], truth)[0, 1] > 0.9


def test_what_was_seen_with_larger_errors_counts_less(draw):
    """Half of the values are worthless, and say so."""
    features, codes = draw(120, 6)
    truth = codes @ np.ones(10)
    wrong = np.arange(120) % 2 == 1
    values = truth + np.where(wrong, 30.0, 0.3) * np.random.default_rng(1).normal(size=120)
    new, others = draw(200, 7)

    def off(errors):
        own = SURROGATES["gaussian_process"](features, values, errors)
        return np.abs(own.predict(new)[0] - others @ np.ones(10)).mean()

    assert off(np.where(wrong, 30.0, 0.3)) < 0.5 * off(np.zeros(120))


def test_the_same_answers_give_the_same_surrogate(draw, accuracy):
    (seen, codes), (new, _) = draw(40, 0), draw(50, 1)
    one, two = (best_surrogate(seen, accuracy(codes)) for _ in range(2))
    np.testing.assert_array_equal(one.predict(new), two.predict(new))
