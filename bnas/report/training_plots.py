"""The figures of a training, in plotly's plain form; see figure.py for the colours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bnas.report.figure import Figure, axis_style, layout_style, line_trace
from bnas.report.types import Curve, Training
from bnas.report.words import in_points, label_of, quantity_name, short

_TITLES = {
    "loss": "loss",
    "lr": "learning rate",
    "images_per_s": "images per second",
    "macs": "MACs of the subnets drawn",
}
_COLORS = {"largest": "@a", "smallest": "@c", "loss": "@measured", "lr": "@b", "images_per_s": "@b"}
_MOST_POINTS = 2000  # of a line: more than its pixels
_BINS = 40
_RUNNING = 25  # a running mean is over one of so many parts of the curve


def training_figures(training: Training) -> dict[str, Figure]:
    """The figures that a training has data for, by curve or metric; `macs` is the histogram."""
    figures = {
        name: _curves_plot(training, name, curves)
        for name, curves in training.groups.items()
        if any(len(curve.values) > 1 for curve in curves)  # a single point is told by the table
    }
    if training.macs:
        figures["macs"] = macs_plot(training.macs)
    return figures


def title_of(group: str) -> str:
    """What a curve, or the metric of a group of curves, is called on an axis."""
    if group in _TITLES:
        return _TITLES[group]
    return f"{label_of(group)}, validation images, %" if in_points(group) else quantity_name(group)


def macs_plot(macs: Sequence[float]) -> Figure:
    """How many subnets were drawn in each of 40 equal parts of the range of MACs."""
    low, high = min(macs), max(macs)
    width = (high - low) / _BINS or max(abs(low), 1.0) / _BINS
    counts = [0] * _BINS
    for value in macs:
        counts[min(_BINS - 1, int((value - low) / width))] += 1
    filled = [(low + (place + 0.5) * width, count) for place, count in enumerate(counts) if count]
    bars = {
        "type": "bar",
        "name": "subnets",
        "x": [x for x, _ in filled],
        "y": [count for _, count in filled],
        "width": width,
        "text": [f"{short(x - width / 2)} to {short(x + width / 2)}" for x, _ in filled],
        "textposition": "none",
        "marker": {"color": "@a"},
        "hovertemplate": "%{y} subnets of %{text} MACs<extra></extra>",
    }
    layout = layout_style(axis_style("MACs"), axis_style("subnets drawn"), legend=False)
    layout["xaxis"]["tickformat"] = ".3~s"
    return {"data": [bars], "layout": layout}


def thinned(curve: Curve, most: int = _MOST_POINTS) -> list[tuple[float, float]]:
    """(step, value) pairs, at most so many: means of runs of neighbours where there are more."""
    run = -(-len(curve.steps) // most)
    return [
        (_mean(curve.steps[first : first + run]), _mean(curve.values[first : first + run]))
        if run > 1
        else (curve.steps[first], curve.values[first])
        for first in range(0, len(curve.steps), run or 1)
    ]


def running_mean(places: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Each value as the mean of those within half a window on both sides; fewer at the ends, as many on each side."""
    sums = [0.0]
    for _, value in places:
        sums.append(sums[-1] + value)
    smooth = []
    for at, (step, _) in enumerate(places):
        reach = min(window // 2, at, len(places) - 1 - at)
        smooth.append((step, (sums[at + reach + 1] - sums[at - reach]) / (2 * reach + 1)))
    return smooth


def _curves_plot(training: Training, group: str, curves: Sequence[Curve]) -> Figure:
    data = []
    for curve in curves:
        places, name = thinned(curve), curve.name.partition("/")[2] or curve.name
        color = _COLORS.get(name, "@measured" if len(curves) == 1 else "@evaluated")
        noisy = group == "loss" and len(places) >= 2 * _RUNNING
        line = line_trace(escape(name), places, "@joint" if noisy else color)
        line["hovertemplate"] = f"{escape(name)} %{{y:.4g}}, step %{{x}}<extra></extra>"
        line["mode"] = "lines" if len(places) > _RUNNING else "lines+markers"
        data.append(line)
        if noisy:
            mean = line_trace("running mean", running_mean(places, len(places) // _RUNNING), color)
            data.append({**mean, "line": {**mean["line"], "width": 2.25}})
    layout = layout_style(axis_style("step"), axis_style(title_of(group)), legend=len(data) > 1)
    layout["shapes"], layout["annotations"] = _ends(training, named=group == "loss")
    return {"data": data, "layout": layout}


def _ends(training: Training, *, named: bool) -> tuple[list[Figure], list[Figure]]:
    """A dotted line where each stage ended, and the stage's name to its left."""
    lines = [
        {
            "type": "line",
            "yref": "paper",
            "x0": end,
            "x1": end,
            "y0": 0,
            "y1": 1,
            "line": {"color": "@axis", "width": 1, "dash": "dot"},
        }
        for _, end in training.ends
    ]
    names = [
        {
            "x": end,
            "y": 1,
            "yref": "paper",
            "text": escape(name),
            "showarrow": False,
            "xanchor": "right",
            "yanchor": "top",
            "font": {"color": "@predicted", "size": 12},
        }
        for name, end in training.ends
    ]
    return lines, names if named else []


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
