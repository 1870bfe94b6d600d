"""The timing protocol: every network is timed in turn with a reference network.

A machine whose speed drifts, because it is warm or shared, slows both alike: the ratio of two blocks timed
next to each other stays, and is what candidates are compared by.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import median

import numpy as np

from bnas.errors import ConfigError, MeasureError

now = time.perf_counter  # seconds; looked up at each call, so that a test can replace the clock

MAX_CALLS = 10_000  # of one network in one block
WARM_BLOCKS = 50  # after which a network that is not stable yet counts as warm
STABLE = 0.05  # two blocks in turn whose medians differ by less, as a fraction, are stable


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """How subnets are timed, and how many of them for the latency predictor.

    `samples` subnets are timed; the predictor's error is that on `holdout` of them (a third at most), which
    it has not seen.
    A network is warmed up for at least `warmup_ms`, then runs in blocks of about `block_ms` in turn with the
    reference; rounds of such blocks are repeated, at least `min_rounds` and at most `max_rounds`, until the
    standard error of the ratio is below `target_ratio_error_percent`.
    """

    samples: int = 24
    holdout: int = 8
    min_rounds: int = 10
    max_rounds: int = 150
    block_ms: float = 3.0
    warmup_ms: float = 60.0
    target_ratio_error_percent: float = 0.5

    def __post_init__(self) -> None:
        for name, least in (("samples", 4), ("holdout", 1), ("min_rounds", 1), ("max_rounds", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: expected {least} or more, got {getattr(self, name)}")
        for name in ("block_ms", "target_ratio_error_percent"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if self.warmup_ms < 0:
            raise ConfigError(f"warmup_ms: expected 0 or more, got {self.warmup_ms}")
        if self.max_rounds < self.min_rounds:
            raise ConfigError(
                f"max_rounds: expected min_rounds ({self.min_rounds}) or more, got {self.max_rounds}"
            )


@dataclass(frozen=True, kw_only=True)
class Timing:
    """`latency_ms` is the median over all `calls`; `ratio` the median over the rounds of (this network's
    median in the round / the reference's in the same round), with its 10th and 90th percentiles and its
    standard error in per cent of it.
    """

    latency_ms: float
    p10_ms: float
    p90_ms: float
    ratio: float
    ratio_p10: float
    ratio_p90: float
    ratio_error_percent: float
    rounds: int
    calls: int


def time_interleaved(runners: Mapping[str, Callable[[], object]], config: MeasureConfig) -> dict[str, Timing]:
    """Time all `runners` in turn; the first is the reference.

    The order is rotated each round, so that none is always timed after the same other one.

    Raises:
        MeasureError: there is nothing to time, or the clock stands still.
    """
    if not runners:
        raise MeasureError("no networks to time")
    names = list(runners)
    calls = {name: _warm_up(run, config) for name, run in runners.items()}
    blocks: dict[str, list[list[float]]] = {name: [] for name in names}
    while True:
        done = len(blocks[names[0]])
        turn = done % len(names)
        for name in names[turn:] + names[:turn]:
            blocks[name].append(_block(runners[name], calls[name]))
        if done + 1 >= config.min_rounds:
            timings = {name: _summary(blocks[name], blocks[names[0]]) for name in names}
            error = max(timing.ratio_error_percent for timing in timings.values())
            if done + 1 >= config.max_rounds or error <= config.target_ratio_error_percent:
                return timings


def _block(run: Callable[[], object], calls: int) -> list[float]:
    """Milliseconds of each of `calls` calls."""
    times = []
    for _ in range(calls):
        begin = now()
        run()
        times.append((now() - begin) * 1000)
    return times


def _warm_up(run: Callable[[], object], config: MeasureConfig) -> int:
    """Run until two blocks in turn agree; returns how many calls make a block of `config.block_ms`."""
    calls, spent, before = 1, 0.0, inf
    for _ in range(WARM_BLOCKS):
        block = _block(run, calls)
        spent += sum(block)
        latency = median(block)
        calls = max(1, min(MAX_CALLS, round(config.block_ms / latency))) if latency > 0 else MAX_CALLS
        if spent >= config.warmup_ms and abs(latency - before) <= STABLE * latency:
            break
        before = latency
    return calls


def _summary(blocks: Sequence[Sequence[float]], reference: Sequence[Sequence[float]]) -> Timing:
    medians = np.array([median(block) for block in blocks])
    reference_medians = np.array([median(block) for block in reference])
    if medians.min() <= 0 or reference_medians.min() <= 0:
        raise MeasureError("a network took no time at all: the clock is too coarse, or stands still")
    p10, latency, p90 = np.percentile([time for block in blocks for time in block], [10, 50, 90])
    ratio_p10, ratio, ratio_p90 = np.percentile(medians / reference_medians, [10, 50, 90])
    # Of a median: √(π/2) σ / √n; σ from percentiles (2.563 σ apart): a few disturbed rounds do not move it.
    error = sqrt(np.pi / 2) * (ratio_p90 - ratio_p10) / 2.563 / sqrt(len(medians))
    return Timing(
        latency_ms=float(latency),
        p10_ms=float(p10),
        p90_ms=float(p90),
        ratio=float(ratio),
        ratio_p10=float(ratio_p10),
        ratio_p90=float(ratio_p90),
        ratio_error_percent=float(100 * error / ratio),
        rounds=len(blocks),
        calls=sum(len(block) for block in blocks),
    )
