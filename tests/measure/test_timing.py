from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle

import pytest

from bnas.errors import ConfigError, MeasureError
from bnas.measure import MeasureConfig, Timing, time_interleaved, timing
from bnas.plain import from_plain, to_plain


class Clock:
    """A clock that moves only when a network runs, and a log of who ran."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.ran: list[str] = []

    def __call__(self) -> float:
        return self.seconds

    def network(self, name: str, times_ms: Sequence[float]) -> Callable[[], None]:
        """A network whose calls take these times, over and over."""
        times = cycle(times_ms)

        def run() -> None:
            self.ran.append(name)
            self.seconds += next(times) / 1000

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "now", clock)
    return clock


def config(**options: float) -> MeasureConfig:
    return from_plain(
        MeasureConfig, {"warmup_ms": 0, "block_ms": 1.0, "min_rounds": 4, "max_rounds": 4} | options
    )


def test_medians_and_ratios_of_constant_networks(clock: Clock) -> None:
    runners = {"reference": clock.network("r", [4.0]), "small": clock.network("s", [1.0])}
    times = time_interleaved(runners, config(block_ms=8.0))
    assert times["small"].latency_ms == pytest.approx(1.0)
    assert times["small"].ratio == pytest.approx(0.25)
    assert (times["small"].ratio_p10, times["small"].ratio_p90) == (pytest.approx(0.25), pytest.approx(0.25))
    assert times["small"].ratio_error_percent == pytest.approx(0, abs=1e-6)
    assert times["reference"].ratio == pytest.approx(1.0)
    # a block of 8 ms is 2 calls of the reference and 8 of the small network, in each of 4 rounds
    assert (times["reference"].calls, times["small"].calls) == (8, 32)
    assert (times["reference"].rounds, times["small"].rounds) == (4, 4)


def test_the_order_is_rotated_each_round(clock: Clock) -> None:
    runners = {name: clock.network(name, [1.0]) for name in "abc"}
    time_interleaved(runners, config())
    assert "".join(clock.ran[-12:]) == "abc" + "bca" + "cab" + "abc"


def test_percentiles_are_those_of_single_calls(clock: Clock) -> None:
    # two calls warm up (two blocks of one), then 4 rounds: 3 … 6 ms
    runners = {"reference": clock.network("r", [9.0, 9.0, 3.0, 4.0, 5.0, 6.0])}
    timed = time_interleaved(runners, config(block_ms=1.0))["reference"]
    assert timed.latency_ms == pytest.approx(4.5)
    assert timed.p10_ms == pytest.approx(3.3)  # a tenth of the way through 3, 4, 5, 6: 3 + 0.3
    assert timed.p90_ms == pytest.approx(5.7)


def test_the_ratio_is_that_within_a_round_so_drift_cancels(clock: Clock) -> None:
    """The machine gets slower by the round; every round, the network takes half of what the reference takes."""
    reference = clock.network("r", [2.0, 2.0, 2.0, 4.0, 8.0, 16.0])
    network = clock.network("n", [1.0, 1.0, 1.0, 2.0, 4.0, 8.0])
    timed = time_interleaved({"reference": reference, "network": network}, config(block_ms=1.0))
    assert timed["network"].ratio == pytest.approx(0.5)
    assert timed["network"].ratio_p90 == pytest.approx(0.5)
    assert timed["network"].latency_ms == pytest.approx(3.0)
    assert timed["reference"].latency_ms == pytest.approx(6.0)


def test_the_ratio_is_the_median_over_rounds(clock: Clock) -> None:
    reference = clock.network("r", [10.0])
    network = clock.network("n", [5.0, 5.0, 5.0, 6.0, 40.0, 7.0, 5.5])  # the first two warm up
    times = time_interleaved({"r": reference, "n": network}, config(min_rounds=5, max_rounds=5))
    assert times["n"].ratio == pytest.approx(0.6)  # of .5 .6 4. .7 .55
    assert times["n"].ratio_p10 == pytest.approx(0.52)
    assert times["n"].ratio_p90 == pytest.approx(2.68)
    # √(π/2) · (2.68 − 0.52) / 2.563 / √5 / 0.6
    assert times["n"].ratio_error_percent == pytest.approx(78.73, abs=0.02)


def test_rounds_are_repeated_until_the_ratio_is_known_well_enough(clock: Clock) -> None:
    def rounds(times_ms: Sequence[float]) -> int:
        runners = {"r": clock.network("r", [10.0]), "n": clock.network("n", times_ms)}
        wanted = config(min_rounds=4, max_rounds=60, target_ratio_error_percent=1.0)
        return time_interleaved(runners, wanted)["n"].rounds

    assert rounds([5.0]) == 4
    assert rounds([5.0, 9.0]) == 60
    assert 4 < rounds([5.0, 5.6]) < 60


def test_warm_up_lasts_until_blocks_agree(clock: Clock) -> None:
    cooling = [64.0, 32.0, 16.0, 8.0, 4.0, 2.0, 1.0]
    timed = time_interleaved({"r": clock.network("r", [*cooling, *[1.0] * 1000])}, config(block_ms=1.0))
    assert timed["r"].p90_ms == pytest.approx(1.0)  # nothing of the cold calls is left in the result
    clock.ran.clear()
    time_interleaved({"r": clock.network("r", [1.0])}, config(block_ms=1.0, warmup_ms=20))
    assert len(clock.ran) == 20 + 4


def test_a_network_that_never_settles_is_timed_all_the_same(clock: Clock) -> None:
    timed = time_interleaved({"r": clock.network("r", [1.0, 3.0])}, config(block_ms=1.0))
    assert timed["r"].rounds == 4
    assert len(clock.ran) == timing.WARM_BLOCKS + 4


def test_a_clock_that_stands_still_is_said(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "MAX_CALLS", 10)
    with pytest.raises(MeasureError, match="took no time at all"):
        time_interleaved({"r": lambda: None}, config())
    with pytest.raises(MeasureError, match="no networks"):
        time_interleaved({}, config())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"samples": 3}, r"measure\.samples: expected 4 or more, got 3"),
        ({"holdout": 0}, r"measure\.holdout: expected 1 or more"),
        ({"block_ms": 0}, r"measure\.block_ms: expected more than 0"),
        ({"warmup_ms": -1}, r"measure\.warmup_ms: expected 0 or more"),
        (
            {"min_rounds": 9, "max_rounds": 8},
            r"measure\.max_rounds: expected min_rounds \(9\) or more, got 8",
        ),
        ({"target_ratio_error_percent": 0}, r"measure\.target_ratio_error_percent: expected more than 0"),
    ],
)
def test_options_are_checked(options: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_plain(MeasureConfig, options, "measure")


def test_timings_are_plain_data(clock: Clock) -> None:
    timed = time_interleaved({"r": clock.network("r", [1.0, 1.1])}, config())["r"]
    assert from_plain(Timing, to_plain(timed)) == timed
