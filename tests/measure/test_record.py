from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bnas.measure import Hardware, Measurement
from bnas.measure.record import calm, calm_limit, mean_of
from bnas.plain import to_plain
from bnas.space import SubnetConfig

HARDWARE = Hardware(
    cpu="any",
    physical_cores=2,
    logical_cores=2,
    flags=(),
    memory_gib=1,
    os="",
    runtime="r",
    runtime_version="1",
)
ONE = Measurement(
    config=SubnetConfig({"width": 8}), space="s", role="fit", time_ms=2.0, p10_ms=1.9, p90_ms=2.2, p99_ms=3.0, ratio=0.5,
    ratio_p10=0.48, ratio_p90=0.52, ratio_error_percent=1.0, converged=True, reference_ms=4.0, rounds=10, calls=20,
    disturbed=1, batch=1, threads=1, streams=0, precision="int8", scenario="latency", artefact="a", size_bytes=8,
    seconds={"time": 0.5, "deploy": 0.1}, memory_bytes=None, energy_mj=2.0, began=100.0, hardware=HARDWARE,
)  # fmt: skip


def timed(ratio: float, error: float = 1.0) -> Measurement:
    return replace(ONE, ratio=ratio, time_ms=4 * ratio, ratio_error_percent=error)


def test_one_timing_is_its_own_mean_and_says_nothing_of_passes() -> None:
    assert mean_of([ONE]) is ONE
    assert "passes" not in to_plain(ONE)


def test_several_timings_as_one() -> None:
    other = replace(timed(0.505), converged=False, memory_bytes=7, energy_mj=4.0, began=200.0)
    mean = mean_of([ONE, other])
    assert mean.ratio == pytest.approx((0.5 * 0.505) ** 0.5)
    assert mean.time_ms == pytest.approx((2 * 2.02) ** 0.5)
    assert (mean.passes, mean.rounds, mean.calls, mean.disturbed, mean.converged) == (2, 20, 40, 2, False)
    assert (mean.memory_bytes, mean.energy_mj, mean.began) == (7, 3.0, 100.0)
    assert mean.seconds == pytest.approx({"time": 1.0, "deploy": 0.2})


def test_the_error_is_what_the_intervals_say_or_how_far_timings_are_apart() -> None:
    assert mean_of([timed(0.5), timed(0.5)]).ratio_error_percent == pytest.approx(1 / 2**0.5)
    assert mean_of([timed(0.5, 3.0), timed(0.5, 4.0)]).ratio_error_percent == pytest.approx(2.5)
    assert mean_of([timed(0.5), timed(0.5 * 1.1)]).ratio_error_percent == pytest.approx(
        1.96 * 100 * np.log(1.1) / 2
    )


def test_the_error_covers_the_truth_as_often_as_it_says() -> None:
    """Timings that scatter by more than their own intervals say, as on a machine that is shared."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        mean = mean_of([timed(float(np.exp(0.03 * rng.normal())), 1.0) for _ in range(6)])
        inside += abs(100 * np.log(mean.ratio)) <= mean.ratio_error_percent
    assert 0.84 < inside / 400 < 0.97  # of six by a normal distribution: 89 %


def test_the_reference_tells_what_was_timed_calmly() -> None:
    """A subnet's own time has no say: one that is slow beside a calm reference is slow."""
    quick, slow, disturbed = timed(0.5), timed(0.9), replace(timed(0.4), reference_ms=4.4)
    by_width = {SubnetConfig({"width": width}): [quick] for width in range(8)}
    known = by_width | {SubnetConfig({"width": 8}): [disturbed, slow, quick, disturbed]}
    assert calm_limit(known) == pytest.approx(1.05 * 4.0)
    assert calm(known)[SubnetConfig({"width": 8})] == [slow, quick]


def test_of_timings_that_were_never_calm_the_calmest_counts() -> None:
    known = {SubnetConfig({"width": width}): [timed(0.5)] for width in range(8)}
    worse, bad = replace(timed(0.7), reference_ms=6.0), replace(timed(0.8), reference_ms=5.0)
    assert calm(known | {SubnetConfig({"width": 8}): [worse, bad]})[SubnetConfig({"width": 8})] == [bad]
    assert calm_limit({}) == 0
