"""The report's figures as PNG files for papers: the front, the hypervolume, which choices matter, the predictions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from bnas.errors import require
from bnas.files import write_with
from bnas.report.foretold import foretold_ms
from bnas.report.front_axes import latency_axis, metric_axis
from bnas.report.importance import ranked
from bnas.report.search_plots import BARS, taus
from bnas.report.types import FrontPoint, Report
from bnas.report.words import quantity_name

Axes: TypeAlias = Any  # matplotlib's, which need not be installed
Figure: TypeAlias = Any
DPI = 300
SIZE_INCHES = (5.2, 3.6)  # a column and a half of a paper
BADGE = {"color": "white", "fontsize": 6.5, "ha": "center", "va": "center"}
COLORS = {
    "A": "#4a5bd4", "B": "#0b8473", "C": "#b9640f", "evaluated": "#b5b9be", "predicted": "#8a93a0",
    "measured": "#3d4a5c", "reference": "#c0394b", "metric": "#4a5bd4", "latency_ms": "#b9640f",
}  # fmt: skip


def write_png(report: Report, folder: Path) -> tuple[Path, ...]:
    """Write `front.png`, `hypervolume.png`, `importance.png` and `prediction.png` into `folder`, those that the report
    has data for; former ones of the others go. Returns their paths.

    Raises:
        MissingPackageError: matplotlib is not installed.
        RunError: a file cannot be written.
    """
    written = []
    figures = png_figures(report)
    for name in PLOTS.keys() - figures.keys():
        (folder / f"{name}.png").unlink(missing_ok=True)
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        write_with(path, partial(_save, figure))
        written.append(path)
    return tuple(written)


def _save(figure: Figure, path: Path) -> None:
    """Without matplotlib's version, so that equal reports give equal files."""
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def png_figures(report: Report) -> dict[str, Figure]:
    """The same as matplotlib's figures, by name; none of them needs a display.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    figure = require("matplotlib.figure", "figures").Figure
    drawn = {}
    for name, draw in PLOTS.items():
        made = figure(figsize=SIZE_INCHES, layout="constrained")
        axes = made.add_subplot()
        if draw(report, axes):
            _plain(made.axes)
            drawn[name] = made
    return drawn


def front(report: Report, axes: Axes) -> bool:
    """The metric on the validation images against latency."""
    low = min([report.reference_val_int8_percent, *(point.metric_percent for point in report.front)])
    seen = [own for own in report.evaluations if own.metric_percent >= low - 2]
    measured = [own for own in report.front if _is_measured(own)]
    _dots(axes, seen, "evaluated", size=9, alpha=0.5, label="evaluated")
    axes.scatter(
        [own.predicted_latency_ms for own in report.front],
        [own.metric_percent for own in report.front],
        s=22, facecolors="white", edgecolors=COLORS["predicted"], label="front, predicted", zorder=3,
    )  # fmt: skip
    for own in measured:
        color = COLORS.get(own.names[0] if own.names else "measured", COLORS["measured"])
        x, y = float(own.latency_ms or 0), float(own.metric_int8_percent or 0)
        axes.errorbar(
            x, y, xerr=_spread(own, x), fmt="none", ecolor=color, elinewidth=0.8, capsize=1.5, zorder=3
        )
        axes.scatter([x], [y], s=58 if own.names else 20, color=color, zorder=4)
        if own.names:
            axes.annotate(_plain_text(" ".join(own.names)), (x, y), zorder=5, **BADGE)
    axes.scatter([], [], s=20, color=COLORS["measured"], label="front, measured (INT8)")
    original = report.reference
    for x, y, fill, name in (
        (original.latency_ms, report.reference_val_int8_percent, COLORS["reference"], "original, INT8"),
        (original.latency_fp32_ms, report.reference_val_fp32_percent, "white", "original, FP32"),
    ):
        axes.scatter(
            [x], [y], s=34, marker="D", facecolors=fill, edgecolors=COLORS["reference"], label=name, zorder=3
        )
    scale = latency_axis(report)  # as on the page
    if scale.get("type") == "log":
        axes.set_xscale("log")
        axes.set_xticks(scale["tickvals"], scale["ticktext"])
        axes.minorticks_off()
    axes.set_xlabel("latency, ms, batch 1")
    axes.set_ylabel(_plain_text(metric_axis(report)))
    axes.legend(fontsize=6.5, frameon=False, loc="lower right")
    return True


def hypervolume(report: Report, axes: Axes) -> bool:
    """Hypervolume after each evaluation, and Kendall's tau of what the search foretold."""
    if not report.hypervolume:
        return False
    steps = range(1, len(report.hypervolume) + 1)
    axes.step(steps, report.hypervolume, where="post", color=COLORS["measured"], label="hypervolume")
    axes.set_xlabel("subnets evaluated")
    axes.set_ylabel("hypervolume")
    axes.set_ylim(bottom=0)
    rounds = taus(report)
    if rounds:
        right = axes.twinx()
        for name, places in rounds.items():
            color = COLORS.get(_role(report, name), COLORS["reference"])
            label = f"tau of {_plain_text(quantity_name(name))}"
            right.plot(*zip(*places, strict=True), "o:", color=color, markersize=3, linewidth=1, label=label)
        right.set_ylabel("Kendall’s tau, held out")
        right.set_ylim(min(0.0, *(tau for places in rounds.values() for _, tau in places)), 1.05)
        right.legend(fontsize=6.5, frameon=False, loc="lower right")
    return True


def importance(report: Report, axes: Axes) -> bool:
    """Importance of the choices that matter most."""
    known = [own for own in report.importance if own.scores]
    if not known:
        return False
    names = ranked(known, report.choices)[:BARS]
    height = 0.8 / len(known)
    for number, own in enumerate(known):
        places = [place + height * (number - (len(known) - 1) / 2) for place in range(len(names))]
        color = COLORS.get(_role(report, own.value), COLORS["measured"])
        label = _plain_text(quantity_name(own.value))
        axes.barh(
            places,
            [own.scores.get(name, 0.0) for name in names],
            height=0.92 * height,
            color=color,
            label=label,
        )
    axes.set_yticks(range(len(names)), [_plain_text(name) for name in names], fontsize=6.5)
    axes.invert_yaxis()
    axes.set_xlabel("share of the variance")
    axes.set_ylabel("choice")
    axes.legend(fontsize=6.5, frameon=False, loc="lower right")
    return True


def prediction(report: Report, axes: Axes) -> bool:
    """Measured against predicted latency of the front's members."""
    measured = [own for own in report.front if _is_measured(own)]
    if not measured:
        return False
    pairs = [(foretold_ms(own), float(own.latency_ms or 0)) for own in measured]
    low, high = min(map(min, pairs)), max(map(max, pairs))
    pad = 0.08 * (high - low) or 0.1 * high
    ends = (low - pad, high + pad)
    axes.plot(ends, ends, ":", color=COLORS["predicted"], linewidth=1)
    for own, (x, y) in zip(measured, pairs, strict=True):
        color = COLORS.get(own.names[0] if own.names else "measured", COLORS["measured"])
        axes.errorbar(
            x, y, yerr=_spread(own, y), fmt="o", color=color, markersize=4, elinewidth=0.8, capsize=1.5
        )
    axes.set_xlim(ends)
    axes.set_ylim(ends)
    axes.set_xlabel("predicted latency, ms")
    axes.set_ylabel("measured latency, ms")
    return True


PLOTS: dict[str, Callable[[Report, Axes], bool]] = {
    "front": front,
    "hypervolume": hypervolume,
    "importance": importance,
    "prediction": prediction,
}


def _dots(axes: Axes, points: Any, color: str, *, size: float, alpha: float, label: str) -> None:
    axes.scatter(
        [own.latency_ms for own in points],
        [own.metric_percent for own in points],
        s=size, color=COLORS[color], alpha=alpha, linewidths=0, label=label,
    )  # fmt: skip


def _role(report: Report, value: str) -> str:
    """The name of a value's colour: that of the metric is the same whatever it is called."""
    return "metric" if value == report.metric else value


def _is_measured(point: FrontPoint) -> bool:
    return point.latency_ms is not None and point.metric_int8_percent is not None


def _spread(point: FrontPoint, median: float) -> list[list[float]] | None:
    """From the 10th to the 90th percentile, as matplotlib takes it; None where it is not known."""
    if point.latency_p10_ms is None or point.latency_p90_ms is None:
        return None
    return [[max(0.0, median - point.latency_p10_ms)], [max(0.0, point.latency_p90_ms - median)]]


def _plain(all_axes: list[Axes]) -> None:
    """Fine lines and small letters."""
    for axes in all_axes:
        axes.tick_params(labelsize=7.5, length=2.5, width=0.6)
        axes.xaxis.label.set_size(8.5)
        axes.yaxis.label.set_size(8.5)
        axes.spines["top"].set_visible(False)
        axes.spines["right"].set_visible(len(all_axes) > 1)
        for spine in axes.spines.values():
            spine.set_linewidth(0.6)


def _plain_text(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")
