"""The facts of a model card: its intervals, its limits, and that it is plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import sqrt

import pytest
from oracles import check_round_trip

from bnas.report.card import ModelCard, interval_percent


@pytest.mark.parametrize(("right", "images"), [(0, 20), (13, 20), (20, 20), (1647, 2000), (9_990, 10_000)])
def test_the_ends_of_an_interval_are_the_shares_that_the_count_just_allows(right: int, images: int) -> None:
    """Wilson's interval holds the shares p with |found − p| ≤ 1.96 √(p (1 − p) / n): its ends make that equal."""
    found = right / images
    low, high = (end / 100 for end in interval_percent(100 * found, images))
    assert 0 <= low <= found <= high <= 1
    for end in (low, high):
        if 1e-9 < end < 1 - 1e-9:
            assert abs(found - end) == pytest.approx(1.96 * sqrt(end * (1 - end) / images), rel=1e-6)


def test_a_card_is_plain_data(card: Callable[[], ModelCard]) -> None:
    check_round_trip(ModelCard, card())


def test_a_small_set_is_called_small(card: Callable[[], ModelCard]) -> None:
    own = card()
    told = " ".join(own.limits)
    assert "The data set is small: 10,000 training images of 3 classes at 32×32 pixels." in told
    assert "on 2,000 test images and known to about ±1.7 points" in told
    large = replace(own, data=replace(own.data, train_images=1_281_167))
    assert "small:" not in " ".join(large.limits)


def test_what_the_hardware_and_the_timing_leave_open_is_told(card: Callable[[], ModelCard]) -> None:
    own = card()
    assert not [told for told in own.limits if "VNNI" in told or "timing ended" in told]
    hardware = {**own.hardware, "notes": ["this CPU has no VNNI: INT8 may saturate"]}
    slow = replace(own.networks[0], converged=False, ratio_error_percent=7.25)
    worse = replace(own, hardware=hardware, networks=(slow, own.networks[1]))
    assert "This CPU has no VNNI: INT8 may saturate." in worse.limits
    assert any("±7.25 %" in told for told in worse.limits)
