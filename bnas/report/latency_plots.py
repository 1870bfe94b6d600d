"""The figures of a latency campaign, in plotly's plain form; see figure.py for the colours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bnas.report.figure import Figure, axis_style, layout_style, line_trace
from bnas.report.latency_words import drifts_percent, kind_name, off_percent, quantity, steps_of
from bnas.report.types import LatencyReport, TimedSubnet

BAND_PERCENT = 5.0  # the shaded band of predictions that are good enough to search by
_STEP_COLORS = ("@a", "@c", "@evaluated", "@b", "@reference", "@measured")
_KIND_COLORS = {"macs_line": "@reference", "lookup": "@c"}
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon")


def latency_figures(report: LatencyReport) -> dict[str, Figure]:
    """The figures that the report has data for, by name."""
    drawn: dict[str, Figure] = {}
    if _predicted(report):
        drawn |= {"predicted": predicted_plot(report), "residuals": residuals_plot(report)}
    if report.learning:
        drawn["learning"] = learning_plot(report)
    if report.subnets:
        drawn |= {"drift": drift_plot(report), "errors": errors_plot(report)}
    if steps_of(report.subnets):
        drawn["cost"] = cost_plot(report)
    return drawn


def predicted_plot(report: LatencyReport) -> Figure:
    """Predicted against measured latency of subnets that the predictor had not seen, with their error bars, those
    of a line through MACs for comparison, and a band of ±5 %."""
    subnets = _predicted(report)
    values = [x for s in subnets for x in (s.measured_ms, s.predicted_ms, s.macs_line_ms) if x is not None]
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or 0.1 * high
    ends = [max(0.0, low - pad), high + pad]
    share = BAND_PERCENT / 100
    data = [
        _band(f"±{BAND_PERCENT:g} %", ends, [x * (1 + share) for x in ends], [x * (1 - share) for x in ends]),
        line_trace("exact", [(x, x) for x in ends], "@predicted", dash="dot"),
        *_macs_line([(s, s.macs_line_ms) for s in subnets], "predicted %{y:.3g} ms"),
        *(
            _points(name, [(s, s.predicted_ms) for s in some], color, "predicted %{y:.3g} ms")
            for name, some, color in _by_role(subnets)
        ),
    ]
    layout = layout_style(
        axis_style(f"measured {quantity(report)}, ms"), axis_style(f"predicted {quantity(report)}, ms")
    )
    layout["xaxis"]["range"] = layout["yaxis"]["range"] = ends
    return {"data": data, "layout": layout}


def residuals_plot(report: LatencyReport) -> Figure:
    """The error of each prediction in per cent, by measured latency; the inner band is what the measurement itself is
    sure to (the median of the subnets' 95 % confidence intervals)."""
    subnets = _predicted(report)
    low, high = (f(s.measured_ms for s in subnets) for f in (min, max))
    pad = 0.04 * (high - low) or 0.1 * high
    ends = [low - pad, high + pad]
    noise = sorted(s.error_percent for s in subnets)[len(subnets) // 2]
    data = [
        _band("the measurement’s own error", ends, [noise] * 2, [-noise] * 2),
        *(
            line_trace("", [(x, edge) for x in ends], "@axis", dash="dot")
            for edge in (-BAND_PERCENT, BAND_PERCENT)
        ),
        *_macs_line([(s, _percent(s.macs_line_ms, s)) for s in subnets], "%{y:+.2f} %"),
        *(
            _points(name, [(s, off_percent(s)) for s in some], color, "%{y:+.2f} %", percent=True)
            for name, some, color in _by_role(subnets)
        ),
    ]
    for edge in data[1:3]:
        edge["showlegend"] = False
    layout = _layout(axis_style(f"measured {quantity(report)}, ms"), axis_style("prediction’s error, %"))
    layout["xaxis"]["range"] = ends
    layout["yaxis"]["range"] = _residual_range(subnets)
    return {"data": data, "layout": layout}


def learning_plot(report: LatencyReport) -> Figure:
    """Mean error on held-out subnets by how many subnets each kind was fitted to."""
    data = []
    for place, kind in enumerate(dict.fromkeys(error.kind for error in report.learning)):
        errors = sorted((e for e in report.learning if e.kind == kind), key=lambda e: e.samples)
        color = "@b" if kind == report.kind else _KIND_COLORS.get(kind, "@evaluated")
        line = line_trace(escape(kind_name(kind)), [(e.samples, e.mape_percent) for e in errors], color)
        line |= {
            "mode": "lines+markers",
            "marker": {"symbol": _SYMBOLS[place % len(_SYMBOLS)], "size": 7, "color": color},
        }
        if kind == report.kind:
            line["line"] = {**line["line"], "width": 2.75}
        del line["hoverinfo"]
        line["hovertemplate"] = f"{escape(kind_name(kind))}: %{{y:.2f}} % from %{{x}} subnets<extra></extra>"
        data.append(line)
    layout = _layout(axis_style("subnets measured, log scale"), axis_style("mean error, %"))
    ticks = sorted({error.samples for error in report.learning})
    layout["xaxis"] |= {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:,}" for tick in ticks]}
    layout["yaxis"]["rangemode"] = "tozero"
    return {"data": data, "layout": layout}


def drift_plot(report: LatencyReport) -> Figure:
    """How far the reference was from its median beside each subnet, by the time that had passed."""
    title, passed = _passed(report.subnets)
    data = [
        line_trace("", [(min(passed), 0), (max(passed), 0)], "@predicted", dash="dot"),
        {
            "type": "scatter",
            "mode": "lines+markers" if len(passed) <= 400 else "lines",
            "name": "reference",
            "x": passed,
            "y": drifts_percent(report),
            "text": [f"{s.reference_ms:.4g} ms" for s in report.subnets],
            "line": {"color": "@joint", "width": 1},
            "marker": {"color": "@measured", "size": 5},
            "hovertemplate": f"%{{text}}, %{{y:+.2f}} %, after %{{x:.1f}} {title}<extra></extra>",
        },
    ]
    layout = layout_style(
        axis_style(f"{title} since the campaign began"),
        axis_style("reference, % off its median"),
        legend=False,
    )
    return {"data": data, "layout": layout}


def errors_plot(report: LatencyReport) -> Figure:
    """Half the width of the 95 % confidence interval of each subnet's ratio, in the order of timing."""
    data = []
    for name, converged, color in (("under its target", True, "@b"), ("at the cap of rounds", False, "@c")):
        some = [(i, s) for i, s in enumerate(report.subnets, start=1) if s.converged is converged]
        if some:
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    "x": [i for i, _ in some],
                    "y": [s.error_percent for _, s in some],
                    "text": [f"{s.rounds} rounds, {s.disturbed} blocks again" for _, s in some],
                    "marker": {"color": color, "size": 5},
                    "hovertemplate": "subnet %{x}: ±%{y:.2f} %, %{text}<extra></extra>",
                }
            )
    layout = _layout(axis_style("subnet, in the order of timing"), axis_style("error, ± %"))
    layout["yaxis"]["rangemode"] = "tozero"
    return {"data": data, "layout": layout}


def cost_plot(report: LatencyReport) -> Figure:
    """Seconds that each subnet cost, by step."""
    data = [
        {
            "type": "bar",
            "name": escape(step),
            "x": list(range(1, len(report.subnets) + 1)),
            "y": [s.seconds.get(step, 0.0) for s in report.subnets],
            "marker": {"color": _STEP_COLORS[place % len(_STEP_COLORS)], "line": {"width": 0}},
            "hovertemplate": f"subnet %{{x}}: {escape(step)} %{{y:.3f}} s<extra></extra>",
        }
        for place, step in enumerate(steps_of(report.subnets))
    ]
    layout = _layout(axis_style("subnet, in the order of timing"), axis_style("seconds"))
    return {"data": data, "layout": {**layout, "barmode": "stack", "bargap": 0.1}}


def _layout(xaxis: Figure, yaxis: Figure) -> Figure:
    """Of a small plot, whose legend would else lie on the title of its axis."""
    layout = layout_style(xaxis, yaxis)
    layout["legend"] |= {"y": -0.27}
    return layout


def _predicted(report: LatencyReport) -> list[TimedSubnet]:
    return [subnet for subnet in report.subnets if subnet.predicted_ms is not None]


def _by_role(subnets: Sequence[TimedSubnet]) -> list[tuple[str, list[TimedSubnet], str]]:
    """(name, subnets, colour) of those that were left out in turn, and of the held-out ones, which lie on top."""
    roles = (("cross-validated", "fit", "@measured"), ("held out", "held_out", "@b"))
    return [
        (name, some, color) for name, role, color in roles if (some := [s for s in subnets if s.role == role])
    ]


def _points(
    name: str,
    places: Sequence[tuple[TimedSubnet, float | None]],
    color: str,
    hover: str,
    *,
    percent: bool = False,
) -> Figure:
    """Predictions by measured latency, with the error bars that they have, in ms or in per cent."""
    bars = []
    for subnet, value in places:
        edges = [
            value if edge is None else _percent(edge, subnet) if percent else edge
            for edge in (subnet.low_ms, subnet.high_ms)
        ]
        bars.append(tuple(abs((value or 0.0) - (edge or 0.0)) for edge in edges))
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [subnet.measured_ms for subnet, _ in places],
        "y": [value for _, value in places],
        "text": [_told(subnet) for subnet, _ in places],
        "marker": {"color": color, "size": 6},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "arrayminus": [low for low, _ in bars],
            "array": [high for _, high in bars],
            "thickness": 1,
            "width": 0,
            "color": "@joint",
        },
        "hovertemplate": f"measured %{{x:.3g}} ms · {hover}<br>%{{text}}<extra></extra>",
    }


def _macs_line(places: Sequence[tuple[TimedSubnet, float | None]], hover: str) -> list[Figure]:
    known = [(subnet.measured_ms, value) for subnet, value in places if value is not None]
    if not known:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": kind_name("macs_line"),
            "x": [x for x, _ in known],
            "y": [y for _, y in known],
            "marker": {"color": "@reference", "size": 5, "symbol": "x-thin-open", "line": {"width": 1}},
            "hovertemplate": f"measured %{{x:.3g}} ms · {kind_name('macs_line')}: {hover}<extra></extra>",
        }
    ]


def _band(name: str, x: Sequence[float], high: Sequence[float], low: Sequence[float]) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [*x, *reversed(x)],
        "y": [*high, *reversed(low)],
        "fill": "toself",
        "fillcolor": "@grid",
        "line": {"color": "@grid", "width": 0},
        "hoverinfo": "skip",
    }


def _told(subnet: TimedSubnet) -> str:
    off, digest = off_percent(subnet), escape(subnet.config_digest[:8])
    bar = (
        ""
        if subnet.low_ms is None or subnet.high_ms is None
        else f" · {subnet.low_ms:.3g} to {subnet.high_ms:.3g} ms"
    )
    return (
        f"{digest} · error {0.0 if off is None else off:+.2f} %{bar} · measured ±{subnet.error_percent:.2f} %"
    )


def _percent(value: float | None, subnet: TimedSubnet) -> float | None:
    return None if value is None else 100 * (value / subnet.measured_ms - 1)


def _residual_range(subnets: Sequence[TimedSubnet]) -> list[float]:
    """All predictions and the ±5 %; of the line through MACs what lies within twice as much."""
    own = max(abs(off_percent(s) or 0.0) for s in subnets)
    line = max((abs(_percent(s.macs_line_ms, s) or 0.0) for s in subnets), default=0.0)
    reach = 1.1 * max(own, BAND_PERCENT, min(line, 2 * max(own, BAND_PERCENT)))
    return [-reach, reach]


def _passed(subnets: Sequence[TimedSubnet]) -> tuple[str, list[float]]:
    """A unit of time, and how much of it had passed when each subnet was timed."""
    first = min(subnet.began for subnet in subnets)
    seconds = [subnet.began - first for subnet in subnets]
    unit, length = next(
        (
            (unit, length)
            for unit, length in (("hours", 3600.0), ("minutes", 60.0))
            if max(seconds) > 3 * length
        ),
        ("seconds", 1.0),
    )
    return unit, [second / length for second in seconds]
