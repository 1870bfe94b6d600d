"""The figures of several runs together, in plotly's plain form, a colour for each run; see figure.py."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bnas.report.figure import Figure, axis_style, layout_style, line_trace
from bnas.report.search_plots import LEGEND_BELOW
from bnas.report.types import FrontPoint, Report

COLORS = ("@a", "@c", "@b", "@reference", "@measured", "@predicted")
SYMBOLS = ("circle", "square", "triangle-up", "pentagon", "star")  # by which runs beyond the colours differ
Named = tuple[str, Report]


def comparison_figures(runs: Sequence[Named]) -> dict[str, Figure]:
    """The figures that the runs have data for, by the id of their place on the page."""
    drawn = {"fronts": fronts_plot(runs)}
    if any(report.hypervolume for _, report in runs):
        drawn["progress"] = progress_plot(runs)
    return drawn


def fronts_plot(runs: Sequence[Named]) -> Figure:
    """Every run's front as measured, what was not measured of it, its chosen subnets by name, its original network."""
    data: list[Figure] = []
    for number, (name, report) in enumerate(runs):
        color, symbol = _look(number)
        measured = sorted((p for p in report.front if _is_measured(p)), key=lambda p: p.latency_ms or 0.0)
        others = [p for p in report.front if not _is_measured(p)]
        told = escape(name)
        data += [
            {
                "type": "scatter",
                "mode": "lines+markers+text",
                "name": told,
                "legendgroup": f"{number}",
                "x": [p.latency_ms for p in measured],
                "y": [p.metric_int8_percent for p in measured],
                "text": [f"<b>{escape(' '.join(p.names))}</b>" for p in measured],
                "textposition": "top center",
                "textfont": {"color": color, "size": 12},
                "line": {"color": color, "width": 1.25, "shape": "hv"},
                "marker": {"color": color, "size": 8, "symbol": symbol},
                "error_x": _bars(measured, color),
                "hovertemplate": f"{told}: %{{y:.2f}} % · %{{x:.3g}} ms %{{text}}<extra></extra>",
            },
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"{told}, predicted",
                "legendgroup": f"{number}",
                "showlegend": not measured,
                "x": [p.predicted_latency_ms for p in others],
                "y": [p.metric_percent for p in others],
                "marker": {
                    "color": "@surface",
                    "size": 7,
                    "symbol": symbol,
                    "line": {"color": color, "width": 1.5},
                },
                "hovertemplate": f"{told}: %{{y:.2f}} % · %{{x:.3g}} ms predicted<extra></extra>",
            },
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"{told}, original",
                "legendgroup": f"{number}",
                "showlegend": False,
                "x": [report.reference.latency_ms],
                "y": [report.reference_val_int8_percent],
                "marker": {"color": color, "size": 12, "symbol": "diamond-open", "line": {"width": 2}},
                "hovertemplate": f"{told}, original INT8: %{{y:.2f}} % · %{{x:.3g}} ms<extra></extra>",
            },
        ]
    layout = layout_style(
        axis_style("latency, ms, batch 1"),
        axis_style(f"{metric_of([own for _, own in runs])}, validation images, %"),
    )
    return {"data": data, "layout": layout}


def metric_of(reports: Sequence[Report]) -> str:
    """What all reports judge by; `metric` where that differs."""
    labels = {report.metric_label for report in reports}
    return labels.pop() if len(labels) == 1 else "metric"


def progress_plot(runs: Sequence[Named]) -> Figure:
    """Hypervolume after each evaluation of every run's search."""
    data = []
    for number, (name, report) in enumerate(runs):
        line = line_trace(
            escape(name), list(enumerate(report.hypervolume, start=1)), _look(number)[0], shape="hv"
        )
        del line["hoverinfo"]
        data.append(line | {"hovertemplate": f"{escape(name)}: %{{y:.3f}} after %{{x}}<extra></extra>"})
    layout = layout_style(axis_style("subnets evaluated"), axis_style("hypervolume"))
    layout["yaxis"]["rangemode"] = "tozero"
    layout["legend"]["y"] = LEGEND_BELOW
    return {"data": data, "layout": layout}


def _look(number: int) -> tuple[str, str]:
    return COLORS[number % len(COLORS)], SYMBOLS[number // len(COLORS) % len(SYMBOLS)]


def _is_measured(point: FrontPoint) -> bool:
    return point.latency_ms is not None and point.metric_int8_percent is not None


def _bars(points: Sequence[FrontPoint], color: str) -> Figure:
    """From the 10th to the 90th percentile; nothing where they are not known."""
    spans = [
        (0.0, 0.0)
        if p.latency_ms is None or p.latency_p10_ms is None or p.latency_p90_ms is None
        else (max(0.0, p.latency_ms - p.latency_p10_ms), max(0.0, p.latency_p90_ms - p.latency_ms))
        for p in points
    ]
    return {
        "type": "data",
        "symmetric": False,
        "arrayminus": [low for low, _ in spans],
        "array": [high for _, high in spans],
        "thickness": 1.25,
        "width": 3,
        "color": color,
    }
