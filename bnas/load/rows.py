"""Slices of an interleaved run as a table: one row for each network, and how it compares with the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bnas.load.summary import LoadResult

FP32, INT8 = "reference/fp32", "reference/int8"


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One test of one network: round `round` of `scenario`, its logs in `folder`, relative to the run's.

    `inputs`: digest of the artefact and of all options that decide the result. `queries_per_s`: what was asked of
    LoadGen (Server: the target).
    """

    scenario: str
    network: str
    round: int
    inputs: str
    folder: str
    queries_per_s: float
    result: LoadResult


@dataclass(frozen=True, kw_only=True)
class LoadRow:
    """A network in a scenario: medians over the rounds.

    `spread_percent`: the range of samples/s over the rounds, in per cent of the median. `valid`: all rounds are;
    `reasons`: LoadGen's, of those that are not. `target_qps`: in Server. `top1_percent`: of LoadGen's accuracy mode.
    `by_round`: samples/s of each round.
    """

    scenario: str
    network: str
    samples_per_s: float
    spread_percent: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    valid: bool
    valid_rounds: int
    reasons: tuple[str, ...]
    by_round: tuple[float, ...]
    target_qps: float | None = None
    top1_percent: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How many times the original's throughput a network has, round by round, median; None: the original was not run.

    `macs_ratio`: MACs of the original by those of the network. `per_macs`: `to_int8` / `macs_ratio`; 1 is a network
    that uses the machine as well as the original does. `valid`: all that is compared is valid.
    """

    scenario: str
    network: str
    to_fp32: float | None
    to_int8: float | None
    macs_ratio: float | None
    per_macs: float | None
    valid: bool


def load_row(slices: Sequence[Slice], top1_percent: float | None = None) -> LoadRow:
    """The row of all rounds of one network in one scenario."""
    results = [own.result for own in sorted(slices, key=lambda own: own.round)]
    rates = tuple(result.samples_per_s for result in results)
    middle, first = median(rates), slices[0]
    return LoadRow(
        scenario=first.scenario,
        network=first.network,
        samples_per_s=middle,
        spread_percent=100 * (max(rates) - min(rates)) / middle,
        p50_ms=median(result.p50_ms for result in results),
        p90_ms=median(result.p90_ms for result in results),
        p99_ms=median(result.p99_ms for result in results),
        valid=all(result.valid for result in results),
        valid_rounds=sum(result.valid for result in results),
        reasons=tuple(dict.fromkeys(reason for result in results for reason in result.reasons)),
        by_round=rates,
        target_qps=first.queries_per_s if first.scenario == "Server" else None,
        top1_percent=top1_percent,
    )


def compare(
    rows: Sequence[LoadRow], macs: Mapping[str, int], *, fp32: str = FP32, int8: str = INT8
) -> tuple[Comparison, ...]:
    """Every network against the original in FP32 and in INT8, in each scenario; `macs` by network.

    Rounds are compared with the same rounds, in which the machine was the same.
    """
    known = {(row.scenario, row.network): row for row in rows}
    found = []
    for row in rows:
        originals = [known.get((row.scenario, name)) for name in (fp32, int8)]
        to_fp32, to_int8 = (_times(row, original) for original in originals)
        less = macs[int8] / macs[row.network] if {int8, row.network} <= macs.keys() else None
        found.append(
            Comparison(
                scenario=row.scenario,
                network=row.network,
                to_fp32=to_fp32,
                to_int8=to_int8,
                macs_ratio=less,
                per_macs=to_int8 / less if to_int8 is not None and less else None,
                valid=row.valid and all(original.valid for original in originals if original is not None),
            )
        )
    return tuple(found)


def _times(row: LoadRow, original: LoadRow | None) -> float | None:
    if original is None:
        return None
    return median(own / other for own, other in zip(row.by_round, original.by_round, strict=True))
