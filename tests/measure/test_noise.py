from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from bnas.errors import MeasureError
from bnas.measure.noise import Noise, Trial, noise_of, refuse_if_noisy
from bnas.measure.timing import MeasureConfig, Timing
from bnas.plain import from_plain, to_plain


def timing(ratio: float, *, time_ms: float = 1.0, disturbed: int = 0, rounds: int = 10) -> Timing:
    return Timing(
        time_ms=time_ms,
        p10_ms=time_ms,
        p90_ms=time_ms,
        p99_ms=time_ms,
        ratio=ratio,
        ratio_p10=ratio,
        ratio_p90=ratio,
        ratio_error_percent=0.8,
        converged=ratio < 1,
        rounds=rounds,
        calls=30,
        disturbed=disturbed,
    )


def trials(ratios: list[tuple[float, float]], name: str = "n", reference_ms: float = 4.0) -> list[Trial]:
    """Two trials of each preparation of one network."""
    return [
        Trial(
            network=name,
            preparation=number,
            timing=timing(ratio, time_ms=ratio * reference_ms),
            reference=timing(1.0, time_ms=reference_ms),
        )
        for number, pair in enumerate(ratios)
        for ratio in pair
    ]


def drawn(
    within: float, between: float, *, count: int = 400, ratio: float = 0.5
) -> list[tuple[float, float]]:
    """Ratios with these standard deviations, in per cent of them."""
    rng = np.random.default_rng(0)
    middles = ratio * (1 + between / 100 * rng.standard_normal(count))
    both = middles[:, None] + ratio * within / 100 * rng.standard_normal((count, 2))
    return [(float(a), float(b)) for a, b in both]


@pytest.mark.parametrize(("within", "between"), [(1.0, 0.0), (0.2, 1.0), (1.0, 1.0)])
def test_the_two_parts_of_the_error_are_told_apart(within: float, between: float) -> None:
    noise = noise_of(trials(drawn(within, between)))
    assert noise.error_percent == pytest.approx(1.96 * np.hypot(within, between), rel=0.1)
    assert noise.floor_percent == pytest.approx(1.96 * between, abs=0.45)
    # four times the rounds halve the part within, and leave the other one
    expected = 1.96 * np.hypot(within / 2, between)
    assert noise.error_at(40) == pytest.approx(expected, abs=0.25)


def test_rounds_that_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = noise_of(trials(drawn(1.0, 0.0)))
    rounds = noise.rounds_for(1.0)
    assert rounds is not None
    assert 30 < rounds < 55  # (1.96 % / 1 %)² · 10 = 38, had preparations shown no difference at all
    assert noise.error_at(rounds) <= 1.0 < noise.error_at(rounds - 1)
    assert noise_of(trials(drawn(0.5, 2.0))).rounds_for(1.0) is None


def test_rounds_that_the_protocol_takes_are_within_its_bounds() -> None:
    noise = noise_of(trials(drawn(1.0, 0.0)))
    config = MeasureConfig(min_rounds=10, max_rounds=150)
    assert noise.rounds_until(100.0, config) == 10
    assert noise.rounds_until(0.1, config) == 150
    assert 30 < noise.rounds_until(1.0, config) < 45


def test_figures_of_each_network_by_hand() -> None:
    pairs = [(0.99, 1.01), (1.02, 1.02), (1.0, 1.03)]
    noise = noise_of(trials(pairs, "a") + trials([(0.5, 0.5), (0.5, 0.5)], "b"))
    a, b = noise.networks
    assert (a.name, b.name) == ("a", "b")
    assert a.ratio == pytest.approx(1.015)  # of .99 1. 1.01 1.02 1.02 1.03
    assert a.halves_percent == pytest.approx(100 * 0.02 / 1.015)  # of .02 0 .03
    assert a.preparations_percent == pytest.approx(100 * 0.015 / 1.015)  # means 1, 1.02, 1.015
    assert a.claimed_percent == 0.8
    assert (b.ratio, b.halves_percent, b.preparations_percent, b.error_percent) == (0.5, 0, 0, 0)
    assert b.time_ms == 2.0
    assert (noise.trials, noise.preparations, noise.rounds) == (10, 5, 10)


def test_networks_that_never_differ_have_no_error() -> None:
    noise = noise_of(trials([(0.5, 0.5)] * 3))
    assert (noise.error_percent, noise.floor_percent) == (0, 0)
    assert noise.rounds_for(1.0) == 1


def test_drift_trend_and_disturbed_blocks() -> None:
    calm = trials([(0.5, 0.5)] * 9, reference_ms=4.0)
    slow = trials([(0.5, 0.5)] * 9, name="late", reference_ms=5.0)
    noise = noise_of(calm + slow)
    assert noise.trend_percent == pytest.approx(25)
    assert noise.drift_percent == pytest.approx(100 / 4.5)
    assert noise.disturbed_percent == 0
    assert noise.exact_percent == 100
    hit = [
        Trial(
            network="n",
            preparation=i // 2,
            timing=timing(0.5, disturbed=3),
            reference=timing(1.0, disturbed=2),
        )
        for i in range(4)
    ]
    assert noise_of(hit).disturbed_percent == pytest.approx(100 * 5 / 25)


def test_one_preparation_tells_nothing() -> None:
    with pytest.raises(MeasureError, match="'n' is not known: it was prepared 1 times"):
        noise_of(trials([(0.5, 0.5)]))


@dataclass
class Measured:
    ratio: float
    ratio_error_percent: float
    reference_ms: float


def test_noisy_measurements_are_refused_with_their_spread() -> None:
    measured = [Measured(0.4 + i / 100, error, 10 + i) for i, error in enumerate([2.0, 7.0, 6.0, 9.5, 8.0])]
    with pytest.raises(MeasureError, match="too noisy") as refusal:
        refuse_if_noisy(measured, 5.0)
    text = str(refusal.value)
    assert "5 subnets" in text
    assert "0.40 to 0.44" in text
    assert "±7.0 % only (median; worst ±9.5 %)" in text
    assert "10.4 to 13.6 ms" in text
    assert "at most ±5 %" in text
    assert "bnas measure --check" in text
    assert "\n" not in text


def test_measurements_within_the_limit_are_let_through_also_with_a_bad_one() -> None:
    refuse_if_noisy([Measured(0.5, 1.0, 10), Measured(0.6, 40.0, 10), Measured(0.7, 5.0, 10)], 5.0)
    refuse_if_noisy([], 5.0)


def test_noise_is_plain_data() -> None:
    noise = noise_of(trials(drawn(1.0, 1.0, count=4)))
    assert from_plain(Noise, to_plain(noise)) == noise
