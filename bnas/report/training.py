"""training.html: the curves of a run's trainings, finished or going on, as one page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from bnas.files import write_text
from bnas.report.figure import Figure
from bnas.report.sections import plot_section, rows_table, sections_page
from bnas.report.training_plots import title_of, training_figures
from bnas.report.types import Training
from bnas.report.words import curve_cells, first_word, number

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
    sections: list[str] = []
    figures: dict[str, Figure] = {}
    for index, training in enumerate(trainings):
        drawn = training_figures(training)
        places = {f"plot-{index}-{place}": name for place, name in enumerate(drawn)}
        figures |= {place: drawn[name] for place, name in places.items()}
        sections.append(_section(training, places))
    return sections_page(
        title=f"{run} · bnas training",
        eyebrow=f"{run} · training",
        headline=_headline(trainings),
        lead="Metrics are on the validation images. A page of a training that goes on is made anew by: "
        "python -m bnas show train",
        sections=sections,
        figures=figures,
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
    title = title_of(group)
    caption = _CAPTIONS.get(group, "Of some subnets, always the same.")
    return plot_section(place, first_word(title), caption, size)


def _table(training: Training) -> str:
    return rows_table(
        ("curve", "points", "first", "last", "best", "at step"),
        [(curve.name, *curve_cells(curve)) for curve in training.curves],
    )
