"""The figures about the search itself, in plotly's plain form; see figure.py for the colours."""

from __future__ import annotations

from html import escape

from bnas.report.figure import Figure, axis_style, layout_style, line_trace
from bnas.report.importance import ranked
from bnas.report.types import Report
from bnas.report.words import quantity_name

BARS = 12  # choices whose importance is drawn, at most
LEGEND_BELOW = -0.3  # of a small plot's height: clear of the title of its axis
_OTHER_COLORS = ("@b", "@measured", "@reference")


def search_figures(report: Report) -> dict[str, Figure]:
    """The figures that the report has data for, by the id of their place on the page."""
    drawn = {}
    if report.hypervolume:
        drawn["progress"] = progress_plot(report)
    if any(own.scores for own in report.importance):
        drawn["importance"] = importance_plot(report)
    return drawn


def progress_plot(report: Report) -> Figure:
    """Hypervolume after each true evaluation of the search, and Kendall's tau of what its predictors foretold."""
    steps = list(enumerate(report.hypervolume, start=1))
    line = line_trace("hypervolume", steps, "@measured", shape="hv")
    line["hovertemplate"] = "hypervolume %{y:.3f} after %{x} evaluations<extra></extra>"
    del line["hoverinfo"]
    rounds = taus(report)
    layout = layout_style(axis_style("subnets evaluated"), axis_style("hypervolume"), legend=bool(rounds))
    layout["yaxis"]["rangemode"] = "tozero"
    layout["legend"]["y"] = LEGEND_BELOW
    if rounds:
        layout["yaxis2"] = {
            **axis_style("Kendall’s tau, held out"),
            "overlaying": "y",
            "side": "right",
            "showgrid": False,
            "tickmode": "linear",
            "tick0": 0,
            "dtick": 0.25,
            "range": [min(0.0, *(tau for points in rounds.values() for _, tau in points)), 1.05],
        }
    lines = [
        {
            **line_trace(f"tau of {quantity_name(name)}", points, color_of(report, name, number), dash="dot"),
            "mode": "lines+markers",
            "marker": {"color": color_of(report, name, number), "size": 7},
            "yaxis": "y2",
            "hoverinfo": "all",
            "hovertemplate": f"tau of {escape(quantity_name(name))}: %{{y:.2f}} after %{{x}}<extra></extra>",
        }
        for number, (name, points) in enumerate(rounds.items())
    ]
    return {"data": [line, *lines], "layout": layout}


def taus(report: Report) -> dict[str, list[tuple[float, float]]]:
    """(evaluations, Kendall's tau) of each round, by the value that was foretold."""
    found: dict[str, list[tuple[float, float]]] = {}
    for own in report.rounds:
        for name, tau in own.kendall_tau.items():
            found.setdefault(name, []).append((own.evaluations, tau))
    return found


def importance_plot(report: Report) -> Figure:
    """Importance of the choices that matter most, for each value, the first at the top."""
    names = ranked(report.importance, report.choices)[:BARS][::-1]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": quantity_name(own.value),
            "x": [own.scores.get(name, 0.0) for name in names],
            "y": [escape(name) for name in names],
            "marker": {"color": color_of(report, own.value, number)},
            "hovertemplate": f"%{{y}}: %{{x:.3f}} for {escape(quantity_name(own.value))}<extra></extra>",
        }
        for number, own in enumerate(report.importance)
        if own.scores
    ][::-1]  # plotly draws upwards
    layout = layout_style(axis_style("share of the variance"), axis_style(""))
    layout["yaxis"] |= {"type": "category", "ticks": "", "tickfont": {"size": 11}}
    layout |= {"barmode": "group", "bargap": 0.35, "bargroupgap": 0.1}
    layout["legend"] |= {"traceorder": "reversed", "y": LEGEND_BELOW}
    return {"data": data, "layout": layout}


def color_of(report: Report, value: str, number: int) -> str:
    """The colour of a value, the same in every figure."""
    known = {report.metric: "@a", "latency_ms": "@c"}
    return known.get(value, _OTHER_COLORS[number % len(_OTHER_COLORS)])
