"""A latency campaign in numbers and sentences, as the page and the terminal tell it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from bnas.report.types import LatencyReport, PredictorError, TimedSubnet
from bnas.report.words import significant

_KINDS = {
    "macs_line": "a line through MACs",
    "lookup": "a table of layers",
    "mlp": "a small MLP",
    "boosting": "gradient boosting",
    "gaussian_process": "Gaussian process",
}
_STEPS = ("extract", "deploy", "compile", "time")
ERROR_HEADS = ("samples", "mean error", "within 2 %", "within 5 %", "Kendall tau", "in error bar")


def kind_name(kind: str) -> str:
    """What a kind of predictor is called in a sentence."""
    return _KINDS.get(kind, kind.replace("_", " "))


def quantity(report: LatencyReport) -> str:
    """What was measured, in words."""
    return "latency" if report.scenario == "latency" else "time of an inference"


def latency_headline(report: LatencyReport) -> str:
    """How well the predictor does, in one sentence."""
    told = kept_error(report)
    if told is None:
        return f"{_subnets(len(report.subnets))} timed; nothing was held out to tell the predictor’s error."
    count = held_out_count(report)
    within = [
        f"{share:.0f} % within {limit} %"
        for limit, share in ((2, told.within_2_percent), (5, told.within_5_percent))
        if share is not None
    ]
    parts = [f"off by {told.mape_percent:.2f} % on average", *within]
    if told.kendall_tau is not None:
        parts.append(f"Kendall tau {told.kendall_tau:.3f}")
    return f"{_subnets(count)} that the predictor had not seen: {', '.join(parts)}."


def kept_error(report: LatencyReport) -> PredictorError | None:
    """The error, on held-out subnets, of the kind that was kept."""
    return next((error for error in report.held_out if error.kind == report.kind), None)


def held_out_count(report: LatencyReport) -> int:
    return sum(subnet.role == "held_out" for subnet in report.subnets)


def error_cells(error: PredictorError) -> tuple[str, ...]:
    """A row under `ERROR_HEADS`."""
    return (
        f"{error.samples:,}",
        f"{error.mape_percent:.2f} %",
        _share(error.within_2_percent),
        _share(error.within_5_percent),
        "–" if error.kendall_tau is None else f"{error.kendall_tau:.3f}",
        _share(error.covered_percent),
    )


def learning_rows(report: LatencyReport) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heads and rows of the learning curves: a row for each kind, its mean error by number of samples."""
    counts = sorted({error.samples for error in report.learning})
    found = {(error.kind, error.samples): error.mape_percent for error in report.learning}
    kinds = dict.fromkeys(error.kind for error in report.learning)
    rows = [
        (
            kind_name(kind),
            *(f"{found[kind, count]:.2f} %" if (kind, count) in found else "–" for count in counts),
        )
        for kind in kinds
    ]
    return ("fitted to", *(f"{count:,}" for count in counts)), rows


def steps_of(subnets: Sequence[TimedSubnet]) -> tuple[str, ...]:
    """The steps that took time, in the order of the work."""
    found = dict.fromkeys(step for subnet in subnets for step in subnet.seconds)
    return (*(step for step in _STEPS if step in found), *(step for step in found if step not in _STEPS))


def cost_rows(report: LatencyReport) -> list[tuple[str, str, str, str]]:
    """(step, median seconds of a candidate, largest, in all) for each step, and for their sum."""
    rows = {
        step: [subnet.seconds.get(step, 0.0) for subnet in report.subnets]
        for step in steps_of(report.subnets)
    }
    if len(rows) > 1:
        rows["together"] = [sum(subnet.seconds.values()) for subnet in report.subnets]
    return [
        (step, f"{median(values):.3f} s", f"{max(values):.3f} s", f"{sum(values):.1f} s")
        for step, values in rows.items()
    ]


def drifts_percent(report: LatencyReport) -> list[float]:
    """The reference's latency beside each subnet, as a difference from its median over the campaign."""
    return [100 * (subnet.reference_ms / report.reference_ms - 1) for subnet in report.subnets]


def drift_sentence(report: LatencyReport) -> str:
    """How far the machine's speed wandered, and what of it remained in the measurements."""
    drifts = drifts_percent(report)
    errors = [subnet.error_percent for subnet in report.subnets]
    blocks = sum(subnet.disturbed for subnet in report.subnets)
    told = (
        f"The reference took {significant(report.reference_ms)} ms (median), and between {min(drifts):+.1f} % and "
        f"{max(drifts):+.1f} % of that beside each subnet. Each subnet’s ratio to it is known to "
        f"±{median(errors):.2f} % (median; 95 % confidence)"
    )
    if blocks:
        told += f"; {blocks:,} disturbed block{'s were' if blocks > 1 else ' was'} timed again"
    unsure = sum(not subnet.converged for subnet in report.subnets)
    if unsure:
        told += f"; {unsure:,} of {len(report.subnets):,} met the cap of rounds before their target"
    return f"{told}."


def latency_facts(report: LatencyReport) -> dict[str, Any]:
    """The predictor in few facts, for `Report.latency_model`: no coefficients, no dates."""
    facts: dict[str, Any] = {"kind": kind_name(report.kind), "subnets_timed": len(report.subnets)}
    for error in report.held_out:
        name = "held_out" if error.kind == report.kind else kind_name(error.kind)
        facts[name] = {
            key: value
            for key in (
                "mape_percent",
                "within_2_percent",
                "within_5_percent",
                "kendall_tau",
                "covered_percent",
            )
            if (value := getattr(error, key)) is not None
        }
    if held_out_count(report):
        facts["subnets_held_out"] = held_out_count(report)
    return facts


def off_percent(subnet: TimedSubnet) -> float | None:
    """The prediction's error in per cent of the measurement."""
    if subnet.predicted_ms is None:
        return None
    return 100 * (subnet.predicted_ms / subnet.measured_ms - 1)


def _share(percent: float | None) -> str:
    return "–" if percent is None else f"{percent:.1f} %"


def _subnets(count: int) -> str:
    return f"{count:,} subnet{'s' * (count != 1)}"
