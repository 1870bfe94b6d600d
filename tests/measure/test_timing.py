from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np
import pytest

from bnas.errors import ConfigError, MeasureError
from bnas.measure import MeasureConfig, Timing, time_interleaved, timing
from bnas.measure.disturbance import Calm, Witness
from bnas.plain import from_plain, to_plain

TRUE_MEDIAN = float(  # of a million rounds as in a test below
    np.median(
        np.where(np.random.default_rng(1).random(10**6) < 0.4, 1.6, 1.0)
        * np.random.default_rng(2).normal(1.0, 0.05, 10**6)
    )
)


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


def untimed(*times_ms: float) -> list[float]:
    """These times, each after that of a call that is not timed."""
    return [time for each in times_ms for time in (50.0, each)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "now", clock)
    monkeypatch.setattr(Witness, "disturbed", lambda self: False)  # nothing disturbs a clock of our own
    return clock


def config(**options: float) -> MeasureConfig:
    return from_plain(
        MeasureConfig,
        {"settle_ms": 0, "warmup_ms": 0, "block_ms": 1.0, "min_rounds": 4, "max_rounds": 4} | options,
    )


def test_medians_and_ratios_of_constant_networks(clock: Clock) -> None:
    runners = {"reference": clock.network("r", [4.0]), "small": clock.network("s", [1.0])}
    times = time_interleaved(runners, config(block_ms=8.0))
    assert times["small"].time_ms == pytest.approx(1.0)
    assert times["small"].ratio == pytest.approx(0.25)
    assert (times["small"].ratio_p10, times["small"].ratio_p90) == (pytest.approx(0.25), pytest.approx(0.25))
    assert times["small"].ratio_error_percent == pytest.approx(0, abs=1e-6)
    assert times["reference"].ratio == pytest.approx(1.0)
    # a block of 8 ms is 2 timed calls of the reference and 8 of the small network, in each of 4 rounds
    assert (times["reference"].calls, times["small"].calls) == (8, 32)
    assert (times["reference"].rounds, times["small"].rounds) == (4, 4)


def test_the_order_is_rotated_each_round_and_each_block_begins_with_an_untimed_call(clock: Clock) -> None:
    runners = {name: clock.network(name, [1.0]) for name in "abc"}
    time_interleaved(runners, config())
    assert "".join(clock.ran[-24:]) == "aabbcc" + "bbccaa" + "ccaabb" + "aabbcc"


def test_what_the_network_before_left_in_the_caches_is_not_timed(clock: Clock) -> None:
    """A network whose first call of each block is slow, because another one evicted its weights."""
    last = [""]

    def network(name: str, cold_ms: float, warm_ms: float) -> Callable[[], None]:
        def run() -> None:
            clock.seconds += (warm_ms if last[0] == name else cold_ms) / 1000
            last[0] = name

        return run

    timed = time_interleaved({"r": network("r", 14.0, 10.0), "n": network("n", 9.0, 5.0)}, config())
    assert timed["n"].p99_ms == pytest.approx(5.0)
    assert timed["n"].ratio == pytest.approx(0.5)


def test_a_block_begins_with_calls_that_are_not_timed_for_so_long(clock: Clock) -> None:
    """Five calls after another network has run it is as fast as it gets: 10, 9, 8, 7 and 6 ms are left out."""
    last, run_of = [""], [0]

    def network(name: str, times_ms: Sequence[float]) -> Callable[[], None]:
        def run() -> None:
            run_of[0] = run_of[0] + 1 if last[0] == name else 0
            last[0] = name
            clock.ran.append(name)
            clock.seconds += times_ms[min(run_of[0], len(times_ms) - 1)] / 1000

        return run

    slow = network("n", [10.0, 9.0, 8.0, 7.0, 6.0, 5.0])
    pair = {"r": network("r", [10.0]), "n": slow}
    timed = time_interleaved(pair, config(block_ms=10.0, settle_ms=39.5))
    assert timed["n"].time_ms == timed["n"].p99_ms == pytest.approx(5.0)
    assert timed["n"].ratio == pytest.approx(0.5)


def beside_others(clock: Clock, busy: Callable[[float], bool]) -> dict[str, Callable[[], None]]:
    """A reference and a network that is slowed the more, while others work: `busy`, by the second."""

    def network(name: str, calm_ms: float, slowed_ms: float) -> Callable[[], None]:
        def run() -> None:
            clock.ran.append(name)
            clock.seconds += (slowed_ms if busy(clock.seconds - 100) else calm_ms) / 1000

        return run

    return {"r": network("r", 4.0, 6.0), "n": network("n", 2.0, 5.0)}


def heard(*times_ms: float) -> Calm:
    calm = Calm()
    for time_ms in times_ms * 30:
        calm.tell(time_ms)
    return calm


def test_rounds_in_which_the_reference_is_slow_do_not_count(clock: Clock) -> None:
    pair, wanted = (
        beside_others(clock, lambda second: second % 0.4 > 0.2),
        config(min_rounds=20, max_rounds=20, patience_s=0),
    )
    without = time_interleaved(pair, wanted)["n"]
    assert without.ratio_p90 == pytest.approx(5 / 6)
    timed = time_interleaved(pair, wanted, heard(4.0, 4.1))
    assert (timed["n"].ratio, timed["n"].rounds) == (pytest.approx(0.5), timed["r"].rounds)
    assert timed["r"].p90_ms == pytest.approx(4.0)
    assert timed["n"].rounds == 20
    assert (timed["r"].disturbed > 5, timed["n"].disturbed) == (True, 0)


def test_the_references_own_time_in_a_round_has_no_say_whether_that_counts(clock: Clock) -> None:
    """Chosen by it, the quicker half of a noisy reference would be compared with all of the network."""
    pair = {"r": clock.network("r", [*[4.0] * 10, 5.0, 5.0]), "n": clock.network("n", [2.0])}
    timed = time_interleaved(pair, config(min_rounds=8, max_rounds=8, patience_s=0), heard(4.0))
    assert timed["r"].p99_ms > 4.8
    assert (timed["r"].rounds, timed["r"].disturbed > 0) == (8, True)


def test_where_it_is_never_calm_all_rounds_count(clock: Clock) -> None:
    timed = time_interleaved(beside_others(clock, lambda second: True), config(patience_s=0), heard(4.0))
    assert timed["n"].ratio == pytest.approx(5 / 6)
    assert (timed["n"].rounds, timed["r"].disturbed, timed["r"].time_ms) == (8, 0, pytest.approx(6.0))


def test_a_network_that_is_slow_by_itself_is_not_thought_disturbed(clock: Clock) -> None:
    pair = {"r": clock.network("r", [4.0]), "n": clock.network("n", untimed(2.0, 9.0))}
    timed = time_interleaved(pair, config(max_rounds=8), heard(4.0))
    assert timed["n"].p90_ms == pytest.approx(9.0)
    assert timed["r"].disturbed == 0


def test_it_waits_for_calm_by_the_reference_and_not_for_longer_than_it_may(clock: Clock) -> None:
    pair = beside_others(clock, lambda second: 0.05 < second < 2.0)
    timed = time_interleaved(pair, config(max_rounds=40, patience_s=3.0), heard(4.0))
    assert timed["n"].ratio == pytest.approx(0.5)
    waiting = "".join(clock.ran)
    assert "r" * 200 in waiting  # and nothing else meanwhile
    clock.seconds, clock.ran = 100.0, []
    pair = beside_others(clock, lambda second: True)
    time_interleaved(pair, config(patience_s=1.0), heard(4.0))
    assert 1.0 <= 6 / 1000 * "".join(clock.ran).count("r" * 8) * 8 < 1.2


def test_percentiles_are_those_of_single_calls(clock: Clock) -> None:
    # two calls warm up (two blocks of one), then 4 rounds: an untimed call and 3 … 6 ms
    runners = {"reference": clock.network("r", [9.0, 9.0, 7.0, 3.0, 7.0, 4.0, 7.0, 5.0, 7.0, 6.0])}
    timed = time_interleaved(runners, config(block_ms=1.0))["reference"]
    assert timed.time_ms == pytest.approx(4.5)
    assert timed.p10_ms == pytest.approx(3.3)  # a tenth of the way through 3, 4, 5, 6: 3 + 0.3
    assert timed.p90_ms == pytest.approx(5.7)
    assert timed.p99_ms == pytest.approx(5.97)


def test_the_ratio_is_that_within_a_round_so_drift_cancels(clock: Clock) -> None:
    """The machine gets slower by the round; every round, the network takes half of what the reference takes."""
    reference = clock.network("r", [2.0, 2.0, *untimed(2.0, 4.0, 8.0, 16.0)])
    network = clock.network("n", [1.0, 1.0, *untimed(1.0, 2.0, 4.0, 8.0)])
    timed = time_interleaved({"reference": reference, "network": network}, config(block_ms=1.0))
    assert timed["network"].ratio == pytest.approx(0.5)
    assert timed["network"].ratio_p90 == pytest.approx(0.5)
    assert timed["network"].time_ms == pytest.approx(3.0)
    assert timed["reference"].time_ms == pytest.approx(6.0)


def test_the_ratio_is_the_median_over_rounds(clock: Clock) -> None:
    reference = clock.network("r", [10.0])
    network = clock.network("n", [5.0, 5.0, *untimed(5.0, 6.0, 40.0, 7.0, 5.5)])
    times = time_interleaved({"r": reference, "n": network}, config(min_rounds=5, max_rounds=5))
    assert times["n"].ratio == pytest.approx(0.6)  # of .5 .6 4. .7 .55
    assert times["n"].ratio_p10 == pytest.approx(0.52)
    assert times["n"].ratio_p90 == pytest.approx(2.68)
    # five rounds are so few that the interval is all of them: (4 − .6) / .6
    assert times["n"].ratio_error_percent == pytest.approx(566.67, abs=0.01)
    assert not times["n"].converged


def test_the_confidence_interval_holds_the_median_as_often_as_it_says() -> None:
    """Of two kinds of rounds, four in ten of them slow: whatever their distribution."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        rounds = np.where(rng.random(40) < 0.4, 1.6, 1.0) * rng.normal(1.0, 0.05, 40)
        ratio, _, _, error = timing._ratio(rounds, np.ones(40))
        held += abs(ratio - TRUE_MEDIAN) <= error / 100 * ratio
    assert 0.93 <= held / 2000 <= 1.0


def test_rounds_are_repeated_until_the_ratio_is_known_well_enough(clock: Clock) -> None:
    def timed(times_ms: Sequence[float]) -> Timing:
        runners = {"r": clock.network("r", [10.0]), "n": clock.network("n", times_ms)}
        wanted = config(min_rounds=4, max_rounds=60, target_ratio_error_percent=1.0)
        return time_interleaved(runners, wanted)["n"]

    assert (timed([5.0]).rounds, timed([5.0]).converged) == (4, True)
    wild = timed([5.0, 9.0, 9.0, 5.0, 5.0, 5.0, 9.0])
    assert (wild.rounds, wild.converged) == (60, False)
    some = timed([5.0, 5.0, 5.3])
    assert 4 < some.rounds < 60
    assert some.converged
    assert some.ratio_error_percent <= 1.0


def test_warm_up_lasts_until_blocks_agree(clock: Clock) -> None:
    cooling = [64.0, 32.0, 16.0, 8.0, 4.0, 2.0, 1.0]
    timed = time_interleaved({"r": clock.network("r", [*cooling, *[1.0] * 1000])}, config(block_ms=1.0))
    assert timed["r"].p90_ms == pytest.approx(1.0)  # nothing of the cold calls is left in the result
    clock.ran.clear()
    time_interleaved({"r": clock.network("r", [1.0])}, config(block_ms=1.0, warmup_ms=20))
    assert len(clock.ran) == 20 + 4 * 2


def test_a_network_that_never_settles_is_timed_all_the_same(clock: Clock) -> None:
    timed = time_interleaved({"r": clock.network("r", [1.0, 3.0])}, config(block_ms=1.0))
    assert timed["r"].rounds == 4
    assert len(clock.ran) == timing.WARM_BLOCKS + 4 * 2


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
        ({"passes": 0}, r"measure\.passes: expected 1 or more"),
        ({"retries": -1}, r"measure\.retries: expected 0 or more, got -1"),
        ({"block_ms": 0}, r"measure\.block_ms: expected more than 0"),
        ({"warmup_ms": -1}, r"measure\.warmup_ms: expected 0 or more"),
        ({"settle_ms": -1}, r"measure\.settle_ms: expected 0 or more"),
        (
            {"min_rounds": 9, "max_rounds": 8},
            r"measure\.max_rounds: expected min_rounds \(9\) or more, got 8",
        ),
        ({"target_ratio_error_percent": 0}, r"measure\.target_ratio_error_percent: expected more than 0"),
        ({"max_ratio_error_percent": 0}, r"measure\.max_ratio_error_percent: expected more than 0"),
    ],
)
def test_options_are_checked(options: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_plain(MeasureConfig, options, "measure")


def test_a_disturbed_block_is_repeated_whatever_its_times(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second block of three was disturbed, and is slow; so is the repeated one. The last one counts."""
    told = iter([False, True, True, False, False])
    monkeypatch.setattr(Witness, "disturbed", lambda self: next(told))
    run = clock.network("r", [1.0, 1.0, *untimed(1.0, 9.0, 8.0, 5.0, 1.0)])
    timed = time_interleaved({"r": run}, config(min_rounds=3, max_rounds=3))["r"]
    assert (timed.rounds, timed.calls, timed.disturbed) == (3, 3, 2)
    assert timed.p99_ms == pytest.approx(1 + 0.98 * 4)


def test_a_machine_that_is_always_disturbed_is_timed_all_the_same(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Witness, "disturbed", lambda self: True)
    timed = time_interleaved({"r": clock.network("r", [1.0])}, config())["r"]
    assert (timed.rounds, timed.disturbed) == (4, 4 * timing.REPEATS)


def test_many_inferences_in_one_call_share_its_time(clock: Clock) -> None:
    class Queue:
        inferences = 8

        def __call__(self) -> None:
            clock.seconds += 0.004

    timed = time_interleaved({"r": clock.network("r", [1.0]), "queue": Queue()}, config(block_ms=8.0))
    assert timed["queue"].time_ms == pytest.approx(0.5)
    assert timed["queue"].calls == 4 * 2  # a block of 8 ms is two calls of 4 ms
    assert timed["queue"].ratio == pytest.approx(0.5)


@pytest.mark.parametrize(("inferences", "waiting"), [(1, True), (8, False)])
def test_several_inferences_at_once_wait_for_each_other(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, inferences: int, waiting: bool
) -> None:
    """Then threads that wait for a CPU are no sign of other work."""
    told: list[bool] = []

    class Told(Witness):
        def __init__(self, *, waiting: bool = True) -> None:
            told.append(waiting)
            super().__init__(waiting=waiting)

    class Queue:
        def __call__(self) -> None:
            clock.seconds += 0.004

    Queue.inferences = inferences  # type: ignore[attr-defined]
    monkeypatch.setattr(timing, "Witness", Told)
    time_interleaved({"r": Queue(), "s": Queue()}, config())
    assert told == [waiting]


def test_timings_are_plain_data(clock: Clock) -> None:
    timed = time_interleaved({"r": clock.network("r", [1.0, 1.1])}, config())["r"]
    assert from_plain(Timing, to_plain(timed)) == timed
