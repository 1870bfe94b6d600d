"""The report's figures as plotly's plain form (data and layout).

Colours are names like `@measured`: the page puts in the values of its light or dark theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bnas.report.explore import Explored
from bnas.report.figure import Figure, axis_style, layout_style, line_trace
from bnas.report.foretold import foretold_ms
from bnas.report.front_axes import ceiling_of, floor_of, latency_axis, limit_lines, metric_axis
from bnas.report.search_plots import search_figures
from bnas.report.types import FrontPoint, Report
from bnas.report.words import significant

FADED = 0.07  # opacity of subnets that a reader has filtered out


def figures(report: Report) -> dict[str, Figure]:
    """The figures that the report has data for, by the id of their place on the page."""
    drawn = {"front": front_plot(report)}
    if _measured(report):
        drawn["prediction"] = prediction_plot(report)
    return drawn | search_figures(report)


def front_plot(report: Report) -> Figure:
    """The metric on the validation images against latency: everything evaluated, the front as predicted and as
    measured (joined by a line), the chosen subnets, the reference; bars from the 10th to the 90th
    percentile. `customdata` are the numbers of the subnets (see explore.py); the last trace is a ring for the page to
    put around one of them."""
    measured, explored = _measured(report), Explored(report)
    unnamed = [p for p in measured if not p.names]
    data = [
        _markers(
            "evaluated in the search",
            [(e.latency_ms, e.metric_percent) for e in report.evaluations],
            {"color": "@evaluated", "size": 5, "opacity": 0.55},
            "%{y:.2f} % · %{x:.3g} ms predicted",
            numbers=range(len(report.evaluations)),
        ),
        _joints(report, explored),
        _markers(
            "front, predicted (before INT8)",
            [(p.predicted_latency_ms, p.metric_percent) for p in report.front],
            {"color": "@surface", "size": 8, "line": {"color": "@predicted", "width": 1.75}},
            "%{y:.2f} % · %{x:.3g} ms predicted",
            numbers=[explored.number[p.config_digest] for p in report.front],
        ),
        _markers(
            f"front, measured (INT8 {escape(report.metric_label)})",
            [(p.latency_ms, p.metric_int8_percent) for p in unnamed],
            {"color": "@measured", "size": 8},
            "%{y:.2f} % · %{x:.3g} ms measured",
            bars=[(p.latency_ms, p.latency_p10_ms, p.latency_p90_ms) for p in unnamed],
            numbers=[explored.number[p.config_digest] for p in unnamed],
        ),
    ]
    data += [_chosen(point, explored) for point in sorted(measured, key=lambda p: p.names) if point.names]
    data += [trace | {"customdata": [explored.original]} for trace in _references(report)]
    data.append(_ring())
    below = sum(e.metric_percent < floor_of(report) for e in report.evaluations)
    layout = layout_style(latency_axis(report), axis_style(metric_axis(report)))
    layout["yaxis"]["range"] = [floor_of(report), ceiling_of(report)]
    layout["meta"] = {"below": below, "explored": True}
    layout["shapes"] = limit_lines(report)
    layout |= {"dragmode": "select", "uirevision": "front"}
    return {"data": data, "layout": layout}


def prediction_plot(report: Report) -> Figure:
    """Measured latency against predicted latency of the members of the front, and where both agree."""
    measured = _measured(report)
    pairs = [(foretold_ms(p), float(p.latency_ms or 0)) for p in measured]
    low, high = min(map(min, pairs)), max(map(max, pairs))
    pad = 0.1 * (high - low) or 0.1 * high
    ends = [low - pad, high + pad]
    errors = [f"{100 * (x / y - 1):+.1f} %" for x, y in pairs]
    dots = _markers(
        "front",
        pairs,
        {"color": "@measured", "size": 8},
        "predicted %{x:.3g} ms · measured %{y:.3g} ms · error %{text}",
    )
    dots["text"] = errors
    data = [line_trace("exact", [(e, e) for e in ends], "@predicted", dash="dot"), dots]
    data += [
        {**_markers("", [(foretold_ms(p), p.latency_ms)], {}, None), **_badge(p)} for p in measured if p.names
    ]
    layout = layout_style(
        axis_style("predicted latency, ms"), axis_style("measured latency, ms"), legend=False
    )
    layout["xaxis"]["range"] = layout["yaxis"]["range"] = ends
    return {"data": data, "layout": layout}


def _measured(report: Report) -> list[FrontPoint]:
    return [p for p in report.front if p.latency_ms is not None and p.metric_int8_percent is not None]


def _markers(
    name: str,
    places: Sequence[tuple[float | None, float | None]],
    marker: Mapping[str, Any],
    hover: str | None,
    bars: Sequence[tuple[float | None, float | None, float | None]] = (),
    numbers: Sequence[int] = (),
) -> Figure:
    """Points at (x, y); `numbers` are those of their subnets, by which the page fades and tells them."""
    trace: Figure = {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [x for x, _ in places],
        "y": [y for _, y in places],
        "marker": dict(marker),
        "cliponaxis": True,
    }
    if hover:
        trace["hovertemplate"] = f"{hover}<extra></extra>"
    else:
        trace["hoverinfo"] = "skip"
    if bars:
        trace["error_x"] = _spread(bars)
    if numbers:
        trace["customdata"] = list(numbers)
        trace["unselected"] = {"marker": {"opacity": FADED}}
    return trace


def _ring() -> Figure:
    """A ring without a place yet."""
    marker = {"symbol": "circle-open", "color": "@ink", "size": 17, "line": {"width": 2, "color": "@ink"}}
    ring = _markers("ring", [], marker, None)
    return ring | {"showlegend": False}


def _spread(bars: Sequence[tuple[float | None, float | None, float | None]]) -> Figure:
    """Error bars from (median, 10th percentile, 90th percentile); none where a percentile is unknown."""
    known = [(0.0, 0.0) if None in bar else (bar[0] - bar[1], bar[2] - bar[0]) for bar in bars]  # type: ignore[operator]
    return {
        "type": "data",
        "symmetric": False,
        "arrayminus": [max(0.0, low) for low, _ in known],
        "array": [max(0.0, high) for _, high in known],
        "thickness": 1.25,
        "width": 3,
        "color": "@spread",
    }


def _joints(report: Report, explored: Explored) -> Figure:
    """One thin line from each predicted point of the front to where it was measured."""
    x: list[float | None] = []
    y: list[float | None] = []
    numbers: list[int] = []
    for point in _measured(report):
        numbers += [explored.number[point.config_digest]] * 3
        x += [point.predicted_latency_ms, point.latency_ms, None]
        y += [point.metric_percent, point.metric_int8_percent, None]
    line = {"color": "@joint", "width": 1}
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "line": line,
        "showlegend": False,
        "hoverinfo": "skip",
        "customdata": numbers,
    }


def _badge(point: FrontPoint) -> Figure:
    """How a chosen subnet is drawn: a large disc in its colour with its name on it."""
    name = escape(" ".join(point.names))
    return {
        "mode": "markers+text",
        "name": f"subnet {name}",
        "text": [f"<b>{name}</b>"],
        "textposition": "middle center",
        "textfont": {"color": "@onaccent", "size": 11},
        "marker": {"color": accent(point.names[0]), "size": 14 + 8 * len(point.names)},
    }


def _chosen(point: FrontPoint, explored: Explored) -> Figure:
    trace = _markers(
        "",
        [(point.latency_ms, point.metric_int8_percent)],
        {},
        f"{escape(' and '.join(point.names))}: %{{y:.2f}} % · %{{x:.3g}} ms measured",
        bars=[(point.latency_ms, point.latency_p10_ms, point.latency_p90_ms)],
        numbers=[explored.number[point.config_digest]],
    )
    trace["unselected"] = {"marker": {"opacity": FADED}, "textfont": {"color": "rgba(0,0,0,0)"}}
    return {**trace, **_badge(point)}


def _references(report: Report) -> list[Figure]:
    original = report.reference
    int8 = (original.latency_ms, original.latency_p10_ms, original.latency_p90_ms)
    fp32 = (original.latency_fp32_ms, original.latency_fp32_p10_ms, original.latency_fp32_p90_ms)
    return [
        _markers(
            "original, INT8",
            [(original.latency_ms, report.reference_val_int8_percent)],
            {"color": "@reference", "size": 12, "symbol": "diamond"},
            "original INT8: %{y:.2f} % · %{x:.3g} ms measured",
            bars=[int8],
        ),
        _markers(
            "original, FP32",
            [(original.latency_fp32_ms, report.reference_val_fp32_percent)],
            {
                "color": "@surface",
                "size": 11,
                "symbol": "diamond",
                "line": {"color": "@reference", "width": 2},
            },
            "original FP32: %{y:.2f} % · %{x:.3g} ms measured",
            bars=[fp32],
        ),
    ]


def accent(name: str) -> str:
    """The colour of a chosen subnet; names other than A, B and C share one."""
    return f"@{name.lower()}" if name in ("A", "B", "C") else "@measured"


def spread_text(p10_ms: float | None, p90_ms: float | None) -> str:
    """`0.401–0.433`, or nothing where it was not measured."""
    return "" if p10_ms is None or p90_ms is None else f"{significant(p10_ms)}–{significant(p90_ms)}"
