"""The parts that all figures share, in plotly's plain form.

Colours are names like `@measured`: the page puts in the values of its light or dark theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Figure = dict[str, Any]


def line_trace(
    name: str, places: Sequence[tuple[float, float]], color: str, dash: str = "solid", shape: str = "linear"
) -> Figure:
    """A line through (x, y) places."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [x for x, _ in places],
        "y": [y for _, y in places],
        "line": {"color": color, "width": 1.75, "dash": dash, "shape": shape},
        "hoverinfo": "skip",
    }


def axis_style(title: str) -> Figure:
    """An axis with its title."""
    return {
        "title": {"text": title, "standoff": 10},
        "gridcolor": "@grid",
        "linecolor": "@axis",
        "zeroline": False,
        "automargin": True,
        "ticks": "outside",
        "tickcolor": "@grid",
        "ticklen": 4,
    }


def layout_style(xaxis: Figure, yaxis: Figure, *, legend: bool = True) -> Figure:
    """What all figures share: the page behind them, the text, the legend below."""
    return {
        "xaxis": xaxis,
        "yaxis": yaxis,
        "showlegend": legend,
        "legend": {"orientation": "h", "x": 0, "y": -0.16, "yanchor": "top", "font": {"size": 12}},
        "margin": {"l": 8, "r": 14, "t": 14, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "@ink", "size": 13},
        "hoverlabel": {"bgcolor": "@hover", "bordercolor": "@axis", "font": {"color": "@ink"}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "@predicted", "activecolor": "@ink"},
        "hovermode": "closest",
        "dragmode": "zoom",
    }
