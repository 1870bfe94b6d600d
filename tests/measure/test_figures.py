from __future__ import annotations

import numpy as np
import pytest

from bnas.measure.figures import figures_of
from bnas.rank import kendall_tau


def test_figures_are_in_per_cent_of_what_was_measured() -> None:
    measured = np.array([1.0, 2.0, 4.0, 5.0])
    predicted = np.array([1.01, 1.92, 4.4, 5.0])
    found = figures_of(predicted, measured, 7, (predicted * 0.97, predicted * 1.03))
    assert found.mape_percent == pytest.approx((1 + 4 + 10 + 0) / 4)
    assert (found.within_2_percent, found.within_5_percent) == (50, 75)
    assert (found.count, found.samples, found.kendall_tau) == (4, 7, pytest.approx(1))
    assert found.covered_percent == 50
    assert figures_of(predicted, measured, 7).covered_percent is None


def test_kendall_tau_counts_pairs_in_order() -> None:
    rank = np.array([1.0, 2.0, 3.0, 4.0])
    assert kendall_tau(rank, rank * 2) == pytest.approx(1)
    assert kendall_tau(rank, -rank) == pytest.approx(-1)
    assert kendall_tau(rank, np.array([1.0, 3.0, 2.0, 4.0])) == pytest.approx((5 - 1) / 6)
    tie = np.array([1.0, 1.0, 2.0, 3.0])  # tau-b: one pair of six is a tie
    assert kendall_tau(rank, tie) == pytest.approx(5 / np.sqrt(6 * 5))
    assert kendall_tau(rank, np.ones(4)) == 0
