"""The axes of the plot of the front: what they span, their ticks, the limits that the search had to keep."""

from __future__ import annotations

from math import floor, log10

from bnas.report.figure import Figure, axis_style
from bnas.report.types import Report


def metric_axis(report: Report) -> str:
    """The title of the metric's axis."""
    return f"{report.metric_label}, validation images, %"


def limited_axes(report: Report) -> dict[str, str]:
    """The values that the axes show."""
    return {"latency_ms": "x", report.metric: "y"}


def _heights(report: Report) -> list[float]:
    heights = [report.reference_val_fp32_percent, report.reference_val_int8_percent]
    heights += [p.metric_percent for p in report.front]
    return heights + [p.metric_int8_percent for p in report.front if p.metric_int8_percent is not None]


def floor_of(report: Report) -> float:
    """The lower end of the plot: poor evaluations must not squeeze the front into a line."""
    heights = _heights(report)
    return min(heights) - 0.12 * (max(heights) - min(heights)) - 0.1


def ceiling_of(report: Report) -> float:
    """The upper end of it."""
    heights = _heights(report)
    return max(heights) + 0.1 * (max(heights) - min(heights)) + 0.1


def latency_axis(report: Report) -> Figure:
    """Latency in ms; logarithmic where the original is several times slower than the front."""
    axis = axis_style("latency, ms, batch 1")
    latencies = [report.reference.latency_fp32_ms, report.reference.latency_ms]
    latencies += [p.predicted_latency_ms for p in report.front]
    latencies += [p.latency_ms for p in report.front if p.latency_ms is not None]
    if min(latencies) > 0 and max(latencies) > 3 * min(latencies):
        latencies += [e.latency_ms for e in report.evaluations if e.latency_ms > 0]
        axis["type"] = "log"
        axis["title"]["text"] += ", log scale"
        axis["tickvals"] = _round_numbers(min(latencies), max(latencies))
        axis["ticktext"] = [f"{tick:g}" for tick in axis["tickvals"]]
    return axis


def _round_numbers(low: float, high: float) -> list[float]:
    """Ticks for a logarithmic axis from `low` to `high`, and one beyond either end."""
    steps = (1, 1.5, 2, 3, 5, 7) if high < 30 * low else (1, 2, 5)
    decades = range(floor(log10(low)) - 1, floor(log10(high)) + 2)
    ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
    first = max(i for i, tick in enumerate(ticks) if tick <= low)
    last = min(i for i, tick in enumerate(ticks) if tick >= high)
    return ticks[first : last + 1]


def limit_lines(report: Report) -> list[Figure]:
    """A line at each limit of the search that the axes show."""
    axes = limited_axes(report)
    return [
        {
            "type": "line",
            "layer": "between",
            "xref": "x" if axes[own.name] == "x" else "paper",
            "yref": "y" if axes[own.name] == "y" else "paper",
            **{f"{axes[own.name]}{end}": own.limit for end in (0, 1)},
            **{f"{other}{end}": end for other in "xy" if other != axes[own.name] for end in (0, 1)},
            "line": {"color": "@reference", "width": 1.5, "dash": "dash"},
        }
        for own in report.constraints
        if own.name in axes
    ]
