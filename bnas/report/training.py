"""training.html: the curves of a run's trainings, finished or going on, as one page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from bnas.errors import require
from bnas.files import write_text
from bnas.report.figure import Figure
from bnas.report.page import script_json
from bnas.report.training_plots import title_of, training_figures
from bnas.report.types import Training
from bnas.report.words import curve_cells, number

_CAPTIONS = {
    "loss": "Mean of the subnets of a step; the thick line is a running mean.",
    "lr": "As the schedule of each stage sets it.",
    "images_per_s": "Of all processes together, since the point before.",
    "macs": "Subnets that were drawn, by their multiply-accumulates.",
}


def write_training(run: str, trainings: Sequence[Training], folder: Path) -> Path:
    """Write `training.html` into `folder`; returns its path.

    Raises:
        MissingPackageError: plotly is not installed.
        RunError: the file cannot be written.
    """
    path = folder / "training.html"
    write_text(path, training_page(run, trainings))
    return path


def training_page(run: str, trainings: Sequence[Training]) -> str:
    """The page's HTML, one file without a request; every name in it is escaped.

    Raises:
        MissingPackageError: plotly is not installed.
    """
    plotly = require("plotly.offline", "report").get_plotlyjs()
    here, sections = files("bnas.report"), []
    figures: dict[str, Figure] = {}
    for index, training in enumerate(trainings):
        drawn = training_figures(training)
        places = {f"plot-{index}-{place}": name for place, name in enumerate(drawn)}
        figures |= {place: drawn[name] for place, name in places.items()}
        sections.append(_section(training, places))
    return Template((here / "training.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{run} · bnas training"),
        css=(here / "page.css").read_text(encoding="utf-8").rstrip(),
        js=(here / "page.js").read_text(encoding="utf-8").rstrip(),
        plotly=plotly,
        figures=script_json(figures),
        eyebrow=escape(f"{run} · training"),
        headline=escape(_headline(trainings)),
        lead="Metrics are on the validation images. A page of a training that goes on is made anew by: "
        "python -m bnas show train",
        sections="\n".join(sections),
    )


def _headline(trainings: Sequence[Training]) -> str:
    """Where the last of the trainings stands, in one sentence."""
    last = trainings[-1]
    told = [
        f"{title_of(name)} {number(curve.values[-1])}"
        if curve.name == name
        else f"{curve.name.partition('/')[2]} {number(curve.values[-1])}"
        for name, curves in last.groups.items()
        if name == "loss" or name not in _CAPTIONS
        for curve in curves
        if not curve.name.partition("/")[2].startswith("random-")
    ]
    return (
        f"{last.name}, step {last.last_step:,}: {', '.join(told)}."
        if told
        else f"{last.name}: no curves yet."
    )


def _section(training: Training, places: dict[str, str]) -> str:
    """One training: its loss, the other plots in pairs, and the table of its curves."""
    name = escape(training.name)
    large = [_plot(place, group, "tall") for place, group in places.items() if group == "loss"]
    small = [_plot(place, group, "small") for place, group in places.items() if group != "loss"]
    ends = ", ".join(f"{stage} to step {end:,}" for stage, end in training.ends)
    caption = f"Stages: {ends}." if ends else f"To step {training.last_step:,}."
    return (
        f'<section><h2>{name}</h2><p class="caption">{escape(caption)}</p>'
        f"{''.join(large)}</section>"
        f'<div class="pair">{"".join(small)}</div>'
        f'<section><h3>All curves of {name}</h3><div class="scroll" tabindex="0">{_table(training)}</div></section>'
    )


def _plot(place: str, group: str, size: str) -> str:
    title, caption = (
        escape(title_of(group)),
        escape(_CAPTIONS.get(group, "Of some subnets, always the same.")),
    )
    return (
        f'<section><h3>{title[:1].upper()}{title[1:]}</h3><p class="caption">{caption}</p>'
        f'<div class="plot {size}"><div id="{place}"></div></div></section>'
    )


def _table(training: Training) -> str:
    heads = "".join(f'<th scope="col">{text}</th>' for text in ("points", "first", "last", "best", "at step"))
    rows = "".join(
        f'<tr><th scope="row">{escape(curve.name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in curve_cells(curve))
        + "</tr>"
        for curve in training.curves
    )
    return f'<table><thead><tr><th scope="col">curve</th>{heads}</tr></thead><tbody>{rows}</tbody></table>'
