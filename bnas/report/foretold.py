"""How far off the search was: what it had of the front's members against what was measured of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnas.rank import kendall_tau
from bnas.report.types import FrontPoint, Report
from bnas.report.words import in_points, points, quantity_name

EXACT = {"macs", "parameters"}  # nothing is predicted of them
MIN_RANKED = 3  # members, of which an order can be told


@dataclass(frozen=True, kw_only=True)
class Off:
    """How far one value was off on `count` measured members of the front.

    `mean`, `bias` (the search's value minus the measured one) and `worst` are points where `value` is a percentage,
    else per cent of the measurement. kendall_tau: of the order; None of fewer than three members.
    """

    value: str
    count: int
    mean: float
    bias: float
    worst: float
    kendall_tau: float | None

    @property
    def unit(self) -> str:
        return "pts" if in_points(self.value) else "%"


def foretold_ms(point: FrontPoint) -> float:
    """Its predicted latency: at the speed that the machine had when it was measured, where that is known."""
    return point.predicted.get("latency_ms", point.predicted_latency_ms)


def offs(report: Report) -> tuple[Off, ...]:
    """Of every value that the search had and that was measured: the metric before and after INT8, latency, the rest."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for point in report.front:
        measured = dict(point.measured)
        if point.metric_int8_percent is not None:
            measured[report.metric] = point.metric_int8_percent
        if point.latency_ms is not None:
            measured["latency_ms"] = point.latency_ms
        foretold = {
            report.metric: point.metric_percent,
            **point.predicted,
            "latency_ms": foretold_ms(point),
        }
        for name in foretold.keys() & measured.keys() - EXACT:
            pairs.setdefault(name, []).append((foretold[name], measured[name]))
    known = (report.metric, "latency_ms")
    first = [name for name in known if name in pairs]
    return tuple(_off(name, pairs[name]) for name in (*first, *sorted(pairs.keys() - {*known})))


OFF_HEADS = ("value", "subnets", "off by", "bias", "worst", "Kendall tau")


def off_rows(report: Report) -> list[tuple[str, ...]]:
    """The cells of a table of them."""
    return [
        (
            quantity_name(own.value),
            f"{own.count}",
            f"{own.mean:.2f} {own.unit}",
            f"{points(own.bias)} {own.unit}",
            f"{own.worst:.2f} {own.unit}",
            "–" if own.kendall_tau is None else f"{own.kendall_tau:.2f}",
        )
        for own in offs(report)
    ]


def _off(name: str, pairs: list[tuple[float, float]]) -> Off:
    foretold, measured = (np.array(values, dtype=float) for values in zip(*pairs, strict=True))
    off = foretold - measured
    if not in_points(name):
        off = 100 * off / np.where(measured == 0, np.nan, measured)
    off = off[np.isfinite(off)]
    return Off(
        value=name,
        count=len(pairs),
        mean=float(np.abs(off).mean()) if len(off) else 0.0,
        bias=float(off.mean()) if len(off) else 0.0,
        worst=float(np.abs(off).max()) if len(off) else 0.0,
        kendall_tau=kendall_tau(foretold, measured) if len(pairs) >= MIN_RANKED else None,
    )
