from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from bnas.accuracy.intervals import difference, wilson


@pytest.mark.parametrize(
    ("correct", "images"), [(0, 1), (1, 1), (0, 50), (50, 50), (7, 12), (38065, 50000), (49999, 50000)]
)
def test_wilsons_interval_is_scipys(correct: int, images: int) -> None:
    low, high = wilson(correct, images)
    expected = binomtest(correct, images).proportion_ci(0.95, method="wilson")
    assert low == pytest.approx(100 * expected.low, abs=1e-6)
    assert high == pytest.approx(100 * expected.high, abs=1e-6)
    assert 0 <= low <= 100 * correct / images <= high <= 100


def test_the_difference_counts_what_one_network_alone_has_right() -> None:
    first = torch.tensor([True, True, True, False, False, False, True, False])
    second = torch.tensor([True, True, False, True, True, False, True, True])
    found = difference(first, second)
    assert (found.only_first, found.only_second, found.images) == (1, 3, 8)
    assert found.points == 25.0
    assert found.low < 25.0 < found.high


def test_two_networks_of_the_same_answers_do_not_differ() -> None:
    right = torch.arange(1000) % 3 == 0
    found = difference(right, right)
    assert found.points == 0
    assert found.low == pytest.approx(-found.high)
    assert 0 < found.high < 0.3  # their own intervals are 6 points wide


def test_the_intervals_hold_the_true_difference_in_about_95_of_100_cases() -> None:
    rng = np.random.default_rng(3)
    both, only_first, only_second = 0.6, 0.06, 0.12
    held = 0
    for _ in range(400):
        cell = rng.choice(4, size=200, p=[both, only_first, only_second, 1 - both - only_first - only_second])
        found = difference(
            torch.from_numpy((cell == 0) | (cell == 1)), torch.from_numpy((cell == 0) | (cell == 2))
        )
        held += found.low <= 100 * (only_second - only_first) <= found.high
    assert 0.92 <= held / 400 <= 0.99
