"""The facts of a model card: its limits, and that it is plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from oracles import check_round_trip

from bnas.report.card import ModelCard


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
