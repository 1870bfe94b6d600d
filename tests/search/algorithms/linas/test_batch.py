"""Improvements against hypervolumes computed by moocore, and batches against trying all."""

from __future__ import annotations

from itertools import combinations

import moocore
import numpy as np
import pytest

from bnas.search.algorithms.linas.batch import Improvement, least_known, most_promising


def _share(points, reference, ideal):
    return moocore.hypervolume(points, ref=reference) / np.prod(reference - ideal)


@pytest.fixture
def cloud():
    """A front [F, 2] with a reference, and candidates [m, 2] around it."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.random(8))
    front = np.stack([10 * x, 3 - 3 * np.sqrt(x)], axis=1)
    return front, np.array([9.0, 2.8]), rng.random((40, 2)) * [12.0, 3.5] - [1.5, 1.0]


@pytest.mark.parametrize("axis", [0, 1])
def test_gains_of_two_objectives_are_exact(cloud, axis):
    front, reference, candidates = cloud
    improvement = Improvement(front, reference, candidates, axis=axis)
    gains = improvement.gains(candidates[None], np.ones((1, 40)))
    ideal = np.vstack([front, candidates]).min(axis=0)
    before = _share(front, reference, ideal)
    for gain, own in zip(gains, candidates, strict=True):
        assert gain == pytest.approx(_share(np.vstack([front, own]), reference, ideal) - before, abs=1e-12)
    assert gains.max() > 0
    assert gains.min() == 0


def test_gains_of_three_objectives_are_near():
    rng = np.random.default_rng(1)
    front, candidates = rng.random((6, 3)) + 0.4, rng.random((20, 3))
    reference = np.full(3, 1.2)
    gains = Improvement(front, reference, candidates, axis=2).gains(candidates[None], np.ones((1, 20)))
    ideal = np.vstack([front, candidates]).min(axis=0)
    before = _share(front, reference, ideal)
    true = [_share(np.vstack([front, own]), reference, ideal) - before for own in candidates]
    np.testing.assert_allclose(gains, true, atol=0.02)


def test_gains_without_a_front_are_whole_volumes():
    candidates = np.array([[0.0, 0.0], [0.5, 0.5], [2.0, 0.0]])
    gains = Improvement(np.empty((0, 2)), np.array([1.0, 1.0]), candidates, axis=0).gains(
        candidates[None], np.ones((1, 3))
    )
    np.testing.assert_allclose(gains, [1.0, 0.25, 0.0])


def test_gains_are_means_over_samples_and_chances(cloud):
    front, reference, candidates = cloud
    samples = np.stack([candidates, candidates - 0.5])
    improvement = Improvement(front, reference, samples.mean(axis=0), axis=0)
    one = improvement.gains(samples[:1], np.ones((1, 40)))
    two = improvement.gains(samples[1:], np.ones((1, 40)))
    chances = np.stack([np.full(40, 0.5), np.ones(40)])
    np.testing.assert_allclose(improvement.gains(samples, chances), (0.5 * one + two) / 2)


def test_the_batch_is_as_good_as_greedy_can_be(cloud):
    front, reference, candidates = cloud
    taken = most_promising(
        Improvement(front, reference, candidates, axis=1), candidates[None], np.ones((1, 40)), 3
    )
    ideal = np.vstack([front, candidates]).min(axis=0)

    def after(places):
        return _share(np.vstack([front, candidates[list(places)]]), reference, ideal)

    best = max(after(places) for places in combinations(range(40), 3))
    before = after(())
    assert len(set(taken)) == 3
    assert after(taken) - before >= (1 - 1 / np.e) * (best - before)  # Nemhauser et al. 1978
    assert after(taken[:1]) == pytest.approx(max(after([place]) for place in range(40)))


def test_nothing_that_does_not_improve_is_taken():
    candidates = np.array([[0.5, 0.5], [0.6, 0.6], [0.7, 0.7]])
    improvement = Improvement(np.empty((0, 2)), np.array([1.0, 1.0]), candidates, axis=0)
    assert most_promising(improvement, candidates[None], np.ones((1, 3)), 3) == [0]


def test_what_cannot_be_is_no_promise():
    candidates = np.array([[0.1, 0.1], [0.5, 0.5]])
    possible = np.array([[0.0, 1.0]])
    improvement = Improvement(np.empty((0, 2)), np.array([1.0, 1.0]), candidates, axis=0)
    assert most_promising(improvement, candidates[None], possible, 2) == [1]


def test_the_least_known_are_not_twins():
    """Three unknown subnets, two of them nearly the same; one hardly unknown."""
    covariance = np.array(
        [[9.0, 8.9, 0.0, 0.0], [8.9, 9.1, 0.0, 0.0], [0.0, 0.0, 4.0, 0.0], [0.0, 0.0, 0.0, 0.1]]
    )
    assert least_known([covariance], [1.0], range(4), [], 2) == [1, 2]
    assert least_known([covariance], [1.0], range(4), [0], 2) == [2, 1]
    assert least_known([covariance], [1.0], [0, 3], [0], 5) == [3]
    assert least_known([4 * covariance], [2.0], range(4), [], 2) == [1, 2]
