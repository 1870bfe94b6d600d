"""How far measurements on this machine can be trusted: figures from repeated trials, and the bar before a fit.

A measurement is off for two reasons. Its own rounds scatter: more rounds help. And the same network prepared a
second time lies elsewhere in memory, and is a little faster or slower for good: more rounds do not help. Both
are told apart by timing each of several preparations twice (an analysis of variance with one random factor).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from statistics import median
from typing import Protocol

import numpy as np

from bnas.errors import MeasureError
from bnas.measure.timing import MeasureConfig, Timing

_NORMAL_50 = 0.6745  # standard deviations: the median distance from the middle of a normal distribution


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One measurement of the check: a network timed in turn with the reference.

    `preparation` counts how often the network was prepared (compiled anew) before.
    """

    network: str
    preparation: int
    timing: Timing
    reference: Timing


@dataclass(frozen=True, kw_only=True)
class NetworkNoise:
    """What the trials of one network say; all in per cent of its ratio to the reference.

    `halves_percent`: by how much two measurements of the same preparation differ (median), and
    `preparations_percent`: those of two preparations (median). `error_percent`: 95 % of single measurements are
    within ± this of the middle of all. `claimed_percent`: what a measurement says of its own error (median).
    """

    name: str
    time_ms: float
    ratio: float
    halves_percent: float
    preparations_percent: float
    error_percent: float
    claimed_percent: float


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What all trials say together.

    `error_percent` is the 95 % error of one measurement of `rounds` rounds, `claimed_percent` what measurements
    say it is (median), `floor_percent` the part of it that comes from preparing a network anew.
    `exact_percent` of the trials were as exact as asked for already; of all blocks, `disturbed_percent` were
    repeated. `drift_percent`: between the 10th and the 90th percentile of the reference's milliseconds;
    `trend_percent`: how much slower it was in the last third of the trials than in the first.
    """

    networks: tuple[NetworkNoise, ...]
    trials: int
    preparations: int
    reference_ms: float
    rounds: int
    error_percent: float
    claimed_percent: float
    floor_percent: float
    exact_percent: float
    disturbed_percent: float
    drift_percent: float
    trend_percent: float

    def error_at(self, rounds: float) -> float:
        """The error of a measurement of `rounds` rounds, which scatter independently of each other."""
        return sqrt(self.floor_percent**2 + self._scatter * self.rounds / rounds)

    def rounds_for(self, percent: float) -> int | None:
        """The rounds after which a measurement is good to ± `percent`; None where no number of them does."""
        left = percent**2 - self.floor_percent**2
        return max(1, ceil(self._scatter * self.rounds / left)) if left > 0 else None

    def rounds_until(self, claimed: float, config: MeasureConfig) -> int:
        """The rounds that the protocol takes: until the rounds' own scatter allows for ± `claimed` per cent."""
        wanted = ceil(self._scatter * self.rounds / claimed**2)
        return min(max(wanted, config.min_rounds), config.max_rounds)

    @property
    def _scatter(self) -> float:
        return self.error_percent**2 - self.floor_percent**2


def noise_of(trials: Sequence[Trial]) -> Noise:
    """The figures of `trials`, in the order in which they were done: two of each preparation of each network,
    all of the same number of rounds.

    Raises:
        MeasureError: a network has not been prepared twice.
    """
    names = list(dict.fromkeys(trial.network for trial in trials))
    ratios = {name: _by_preparation([trial for trial in trials if trial.network == name]) for name in names}
    for name, of in ratios.items():
        if len(of) < 2:
            raise MeasureError(f"the noise of '{name}' is not known: it was prepared {len(of)} times, not 2")
    within, between = np.mean([_variances(of) for of in ratios.values()], axis=0)
    error = _percentile_95([d for of in ratios.values() for d in _deviations(of)])
    blocks = sum(2 * trial.timing.rounds for trial in trials)
    repeated = sum(trial.timing.disturbed + trial.reference.disturbed for trial in trials)
    times = np.array([trial.reference.time_ms for trial in trials])
    third = max(len(times) // 3, 1)
    p10, middle, p90 = np.percentile(times, [10, 50, 90])
    return Noise(
        networks=tuple(_network(name, trials, ratios[name]) for name in names),
        trials=len(trials),
        preparations=sum(len(of) for of in ratios.values()),
        reference_ms=float(middle),
        rounds=round(median(trial.timing.rounds for trial in trials)),
        error_percent=error,
        claimed_percent=median(trial.timing.ratio_error_percent for trial in trials),
        floor_percent=error * sqrt(between / (within + between)) if between else 0.0,
        exact_percent=100 * float(np.mean([trial.timing.converged for trial in trials])),
        disturbed_percent=100 * repeated / (blocks + repeated),
        drift_percent=100 * float((p90 - p10) / middle),
        trend_percent=100 * float(np.median(times[-third:]) / np.median(times[:third]) - 1),
    )


class Measured(Protocol):
    """What is read of a `Measurement`."""

    @property
    def ratio(self) -> float: ...
    @property
    def ratio_error_percent(self) -> float: ...
    @property
    def reference_ms(self) -> float: ...


def refuse_if_noisy(measurements: Sequence[Measured], limit_percent: float) -> None:
    """Refuse to fit a predictor to measurements whose own error (median, 95 %) is above `limit_percent`.

    Raises:
        MeasureError: it is; the text says the spread, and what to do.
    """
    if not measurements:
        return
    errors = np.array([measured.ratio_error_percent for measured in measurements])
    middle, worst = float(np.median(errors)), float(errors.max())
    if middle <= limit_percent:
        return
    low, high = np.percentile([measured.reference_ms for measured in measurements], [10, 90])
    ratios = [measured.ratio for measured in measurements]
    raise MeasureError(
        f"this machine is too noisy to fit a latency predictor: the ratios of {len(errors)} subnets to the "
        f"reference ({min(ratios):.2f} to {max(ratios):.2f}) are known to ±{middle:.1f} % only (median; worst "
        f"±{worst:.1f} %), and the reference took {low:.3g} to {high:.3g} ms; at most ±{limit_percent:g} % is "
        "allowed (measure.max_ratio_error_percent). `bnas measure --check` tells what disturbs; then measure "
        "anew with --force, with more rounds (measure.max_rounds=…) where it cannot be helped"
    )


def _network(name: str, trials: Sequence[Trial], ratios: Sequence[Sequence[float]]) -> NetworkNoise:
    own = [trial.timing for trial in trials if trial.network == name]
    middle = median(ratio for of in ratios for ratio in of)
    means = np.array([np.mean(of) for of in ratios])
    pairs = np.abs(np.subtract.outer(means, means))[np.triu_indices(len(means), 1)]
    return NetworkNoise(
        name=name,
        time_ms=median(timing.time_ms for timing in own),
        ratio=middle,
        halves_percent=100 * median(max(of) - min(of) for of in ratios) / middle,
        preparations_percent=100 * float(np.median(pairs)) / middle,
        error_percent=_percentile_95(_deviations(ratios)),
        claimed_percent=median(timing.ratio_error_percent for timing in own),
    )


def _by_preparation(trials: Sequence[Trial]) -> list[list[float]]:
    """Ratios of one network: [preparations][2]; a preparation that was timed once is left out."""
    ratios: dict[int, list[float]] = {}
    for trial in trials:
        ratios.setdefault(trial.preparation, []).append(trial.timing.ratio)
    return [of[:2] for of in ratios.values() if len(of) >= 2]


def _variances(ratios: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Variance of a measurement within a preparation, and of what preparations add; in (per cent)²."""
    pairs = np.array(ratios) / median(ratio for of in ratios for ratio in of) * 100  # [preparations, 2]
    within = _spread(pairs[:, 0] - pairs[:, 1]) ** 2 / 2
    means = pairs.mean(axis=1)
    return within, max(0.0, _spread(means - np.median(means)) ** 2 - within / 2)


def _spread(values: np.ndarray) -> float:
    """Standard deviation around 0 from the median distance: single outliers do not move it."""
    return float(np.median(np.abs(values))) / _NORMAL_50


def _deviations(ratios: Sequence[Sequence[float]]) -> list[float]:
    """Distance of each measurement from the middle of all of this network, in per cent of it."""
    middle = median(ratio for of in ratios for ratio in of)
    return [100 * abs(ratio / middle - 1) for of in ratios for ratio in of]


def _percentile_95(values: Sequence[float]) -> float:
    return float(np.percentile(values, 95))
