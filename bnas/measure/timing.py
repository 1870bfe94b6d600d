"""The timing protocol: every network is timed in turn with a reference network.

A machine whose speed drifts, because it is warm or shared, slows both alike: the ratio of two blocks timed
next to each other stays, and is what candidates are compared by. A network that runs after another one finds
that one's weights in the caches, and its first calls take up to twice as long as its tenth: each block begins
with calls that are not timed, for as long as caches take to fill. So it is timed as it will run, by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, inf, sqrt
from statistics import median

import numpy as np

from bnas.errors import ConfigError, MeasureError
from bnas.measure.disturbance import Calm, Witness

now = time.perf_counter  # seconds; looked up at each call, so that a test can replace the clock

MAX_CALLS = 10_000  # of one network in one block
WARM_BLOCKS = 50  # after which a network that is not stable yet counts as warm
STABLE = 0.05  # two blocks in turn whose medians differ by less, as a fraction, are stable
REPEATS = 3  # of a block that other work disturbed; the last counts, whatever happens
_NORMAL_95 = 1.96  # standard deviations to each side of a normal's middle that hold 95 % of it


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """How subnets are timed, and how many of them for the latency predictor.

    `samples` subnets are timed; `holdout` of them (two thirds at most) are random ones, which only tell
    the predictor's error. The others are chosen to teach it the most. There are `passes` over them, each of which
    times all. What neighbours do to shared caches and memory lasts for seconds, is in every timing and in no
    interval; but it slows the reference too: subnets that were timed while that was slower than when the machine was
    calm are timed again later, up to `retries` times each, and what was timed calmly counts (docs/decisions/0012).
    For up to `patience_s` seconds of each timing a campaign waits until the machine is calm again.
    A network is warmed up for at least `warmup_ms`, then runs in blocks of about `block_ms` in turn with the
    reference, each after `settle_ms` of calls that are not timed (one at least); rounds of such blocks are
    repeated, at least `min_rounds` and at most `max_rounds`, until the 95 % confidence interval of the ratio to
    the reference is within ± `target_ratio_error_percent`.
    No predictor is fitted to measurements whose median error is above `max_ratio_error_percent`.
    `memory`: read the peak memory of each subnet as well, in a process of its own (a second or less for each).
    `transfer_from` names another hardware of the run (a folder in latency/): its predictor is carried over
    to this one, for which few samples are enough.
    """

    samples: int = 24
    holdout: int = 8
    passes: int = 1
    retries: int = 2
    patience_s: float = 2.0
    min_rounds: int = 10
    max_rounds: int = 150
    block_ms: float = 3.0
    settle_ms: float = 10.0
    warmup_ms: float = 60.0
    target_ratio_error_percent: float = 1.0
    max_ratio_error_percent: float = 5.0
    memory: bool = False
    transfer_from: str | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("samples", 4),
            ("holdout", 1),
            ("passes", 1),
            ("retries", 0),
            ("min_rounds", 1),
            ("max_rounds", 1),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: expected {least} or more, got {getattr(self, name)}")
        for name in ("block_ms", "target_ratio_error_percent", "max_ratio_error_percent"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}: expected more than 0, got {getattr(self, name)}")
        for name in ("settle_ms", "warmup_ms", "patience_s"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if self.max_rounds < self.min_rounds:
            raise ConfigError(
                f"max_rounds: expected min_rounds ({self.min_rounds}) or more, got {self.max_rounds}"
            )


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One network in an interleaved run.

    An inference is of one batch. `time_ms` is the median over all calls of the time of one inference: where
    one runs at a time from call to answer (its latency), where many run at once from one completed to the
    next. `ratio` is the median over the rounds of (this network's median in the round ÷ the reference's in the
    same round), with its 10th and 90th percentiles; `ratio_error_percent` how far its 95 % confidence interval
    goes to the farther side, in per cent of it. `converged` says whether that reached what was asked for before the
    last round. `disturbed` counts blocks that were repeated because other work took the CPU, and for the reference
    rounds that do not count because it was slow.
    """

    time_ms: float
    p10_ms: float
    p90_ms: float
    p99_ms: float
    ratio: float
    ratio_p10: float
    ratio_p90: float
    ratio_error_percent: float
    converged: bool
    rounds: int
    calls: int
    disturbed: int


def time_interleaved(
    runners: Mapping[str, Callable[[], object]], config: MeasureConfig, calm: Calm | None = None
) -> dict[str, Timing]:
    """Time all `runners` in turn; the first is the reference.

    The order is rotated each round, so that none is always timed after the same other one. A runner's
    `inferences`, where it has any, is how many one call does.
    With `calm`, which has heard of other timings of the same reference, only those rounds count in which the machine
    was calm; there are twice `max_rounds` at most, and where fewer than `min_rounds` were calm, all count.

    Raises:
        MeasureError: there is nothing to time, or the clock stands still.
    """
    if not runners:
        raise MeasureError("no networks to time")
    names = list(runners)
    reference, most = names[0], config.max_rounds * (1 if calm is None else 2)
    calls = {name: _warm_up(run, config) for name, run in runners.items()}
    rounds: list[dict[str, list[float]]] = []
    patience_s = config.patience_s
    disturbed = dict.fromkeys(names, 0)
    one_at_a_time = all(getattr(run, "inferences", 1) == 1 for run in runners.values())
    with Witness(waiting=one_at_a_time) as witness:
        for done in range(most):
            turn, blocks = done % len(names), {}
            for name in names[turn:] + names[:turn]:
                blocks[name], repeated = _undisturbed(runners[name], calls[name], config, witness)
                disturbed[name] += repeated
            rounds.append(blocks)
            if calm is not None:
                calm.tell(median(blocks[reference]))
                patience_s -= _wait(runners[reference], calls[reference], config, calm, patience_s)
            counted = _calm(rounds, reference, calm)
            if len(counted) >= config.min_rounds or done == most - 1:
                counted = counted if len(counted) >= config.min_rounds else rounds
                medians = {name: np.array([median(own[name]) for own in counted]) for name in names}
                ratios = {name: _ratio(medians[name], medians[reference]) for name in names}
                converged = max(r[-1] for r in ratios.values()) <= config.target_ratio_error_percent
                if converged or len(counted) >= config.max_rounds:
                    break
    disturbed[reference] += len(rounds) - len(counted)
    return {
        name: _timing(
            [own[name] for own in counted], ratios[name], converged=converged, disturbed=disturbed[name]
        )
        for name in names
    }


def _calm(
    rounds: list[dict[str, list[float]]], reference: str, calm: Calm | None
) -> list[dict[str, list[float]]]:
    """Those before and after which the reference was not slow.

    What was timed in a round has no say whether it counts, neither another network's time nor the reference's: chosen
    by its own time the reference would look faster than it is.
    """
    if calm is None or calm.limit_ms == inf:
        return rounds
    slow = [median(own[reference]) > calm.limit_ms for own in rounds]
    return [
        own
        for place, own in enumerate(rounds)
        if not any(slow[max(0, place - 1) : place]) and not any(slow[place + 1 : place + 2])
    ]


def _wait(
    run: Callable[[], object], calls: int, config: MeasureConfig, calm: Calm, at_most_s: float
) -> float:
    """Until the machine is calm, where it was not; returns the seconds that took."""
    began = now()
    while not calm.now and now() - began < at_most_s:
        _settle(run, config.settle_ms)
        calm.tell(median(_block(run, calls)))
    return now() - began


def _undisturbed(
    run: Callable[[], object], calls: int, config: MeasureConfig, witness: Witness
) -> tuple[list[float], int]:
    """A block of calls, and how often it was repeated."""
    for repeated in range(REPEATS + 1):
        _settle(run, config.settle_ms)
        witness.begin()
        block = _block(run, calls)
        if not witness.disturbed() or repeated == REPEATS:
            break
    return block, repeated


def _settle(run: Callable[[], object], settle_ms: float) -> None:
    """Call it for so long. As many for each timing: a number found anew each time would move what is timed."""
    begin = now()
    run()
    while (now() - begin) * 1000 < settle_ms:
        run()


def _block(run: Callable[[], object], calls: int) -> list[float]:
    """Milliseconds of an inference in each of `calls` calls."""
    inferences = getattr(run, "inferences", 1)
    times = []
    for _ in range(calls):
        begin = now()
        run()
        times.append((now() - begin) * 1000 / inferences)
    return times


def _warm_up(run: Callable[[], object], config: MeasureConfig) -> int:
    """Run until two blocks in turn agree; returns how many calls make a block of `config.block_ms`."""
    calls, spent, before = 1, 0.0, inf
    for _ in range(WARM_BLOCKS):
        begin = now()
        latency = median(_block(run, calls))
        took = (now() - begin) * 1000
        spent += took
        each = took / calls
        calls = max(1, min(MAX_CALLS, round(config.block_ms / each))) if each > 0 else MAX_CALLS
        if spent >= config.warmup_ms and abs(latency - before) <= STABLE * latency:
            break
        before = latency
    return calls


def _ratio(medians: np.ndarray, reference: np.ndarray) -> tuple[float, float, float, float]:
    """Median, 10th and 90th percentile of the ratio over the rounds, and its error in per cent."""
    if medians.min() <= 0 or reference.min() <= 0:
        raise MeasureError("a network took no time at all: the clock is too coarse, or stands still")
    ratios = np.sort(medians / reference)
    p10, ratio, p90 = (float(value) for value in np.percentile(ratios, [10, 50, 90]))
    # The order statistics between which the median of what was drawn from lies with 95 %, whatever its
    # distribution (Conover 1999, §3.2): on a busy machine rounds are of two kinds, and no normal fits.
    low = max(0, floor((len(ratios) - _NORMAL_95 * sqrt(len(ratios))) / 2))
    return ratio, p10, p90, 100 * max(float(ratios[-1 - low]) - ratio, ratio - float(ratios[low])) / ratio


def _timing(
    blocks: Sequence[Sequence[float]],
    ratio: tuple[float, float, float, float],
    *,
    converged: bool,
    disturbed: int,
) -> Timing:
    times = [time for block in blocks for time in block]
    p10, middle, p90, p99 = (float(value) for value in np.percentile(times, [10, 50, 90, 99]))
    return Timing(
        time_ms=middle,
        p10_ms=p10,
        p90_ms=p90,
        p99_ms=p99,
        ratio=ratio[0],
        ratio_p10=ratio[1],
        ratio_p90=ratio[2],
        ratio_error_percent=ratio[3],
        converged=converged,
        rounds=len(blocks),
        calls=len(times),
        disturbed=disturbed,
    )
