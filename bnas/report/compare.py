"""compare.html: several finished runs on one page; their fronts, chosen subnets and options beside one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bnas.files import write_text
from bnas.report.compare_plots import comparison_figures, metric_of
from bnas.report.html import notes_box
from bnas.report.sections import plot_section, rows_table, sections_page
from bnas.report.table import columns
from bnas.report.types import Report, SubnetReport
from bnas.report.words import first_word, headliner, significant

SHOWN_CHARACTERS = 60  # of an option's value


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One run of a comparison. `options` are its configuration, by dotted path; `page` is the way from the comparison's
    folder to the run's own page, empty where there is none."""

    name: str
    report: Report
    options: Mapping[str, Any] = field(default_factory=dict)
    page: str = ""


def write_comparison(runs: Sequence[Compared], path: Path) -> None:
    """Write the page of those runs.

    Raises:
        MissingPackageError: plotly is not installed.
        RunError: the file cannot be written.
    """
    write_text(path, comparison_page(runs))


def comparison_page(runs: Sequence[Compared]) -> str:
    """The page's HTML, one file without a request; every name in it is escaped.

    Raises:
        MissingPackageError: plotly is not installed.
    """
    figures = comparison_figures([(run.name, run.report) for run in runs])
    sections = [
        notes_box(comparison_notes(runs)),
        plot_section("fronts", "Fronts", _FRONTS.format(_metric(runs)), "tall", level=2),
        _chosen(runs),
        plot_section("progress", "Progress of the searches", _PROGRESS, "small", level=2)
        if "progress" in figures
        else "",
        _options(runs),
        _links(runs),
    ]
    return sections_page(
        title=f"{', '.join(run.name for run in runs)} · bnas comparison",
        eyebrow=" · ".join(run.name for run in runs),
        headline=comparison_headline(runs),
        lead=_lead(runs),
        sections=[section for section in sections if section],
        figures=figures,
    )


_FRONTS = (
    "{} on the validation images against latency at batch 1. Filled: INT8 as measured, from the 10th to the 90th "
    "percentile; hollow: members that were not measured, as the search saw them; diamonds: original networks, INT8. "
    "Click a name in the legend to hide a run."
)
_PROGRESS = "Hypervolume after each evaluation; searches of one space on one hardware can be compared by it."


def comparison_headline(runs: Sequence[Compared]) -> str:
    """The fastest of the subnets that a headline would be about."""
    known = [(run, subnet) for run in runs if (subnet := headliner(run.report)) is not None]
    if not known:
        return f"{len(runs)} runs, which chose no subnets."
    run, best = min(known, key=lambda own: own[1].latency_ms)
    return (
        f"Of {len(runs)} runs, {run.name} has the fastest subnet {best.name}: {significant(best.latency_ms)} ms at "
        f"{best.metric_int8_percent:.2f} % {run.report.metric_label}."
    )


def comparison_notes(runs: Sequence[Compared]) -> tuple[str, ...]:
    """What a reader has to know before comparing: other images, other machines, other tasks."""
    reports = [run.report for run in runs]
    told = []
    if len({own.metric for own in reports}) > 1:
        labels = " and ".join(dict.fromkeys(own.metric_label for own in reports))
        told.append(
            f"These runs are judged by different metrics, {labels}: their accuracies cannot be compared."
        )
    elif len({(own.dataset, own.task, own.report_images) for own in reports}) > 1:
        told.append("These runs are on different data: their accuracies cannot be compared.")
    if len({str(own.hardware.get("cpu")) for own in reports}) > 1:
        told.append("These runs were measured on different processors.")
    if len({str(own.protocol.get("threads")) for own in reports}) > 1:
        told.append("These runs were measured with different numbers of threads.")
    return tuple(told)


def _metric(runs: Sequence[Compared]) -> str:
    return first_word(metric_of([run.report for run in runs]))


def _lead(runs: Sequence[Compared]) -> str:
    return "; ".join(
        f"{run.name}: {len(run.report.evaluations)} subnets evaluated of {run.report.dataset}, measured on "
        f"{run.report.hardware.get('cpu') or run.report.protocol.get('hw') or 'unknown hardware'}"
        for run in runs
    )


def _chosen(runs: Sequence[Compared]) -> str:
    """The chosen subnets of all runs and their originals, with the columns of a run's own table."""
    label = metric_of([run.report for run in runs])
    every = {
        own.title: own for run in runs for own in columns(replace(run.report, metric_label=label))
    }.values()
    heads = ("network", *("\n".join(filter(None, column.head)) for column in every))
    rows: list[tuple[str, ...]] = []
    marked: list[int] = []
    for run in runs:
        for subnet in (*run.report.subnets, run.report.reference):
            if subnet is run.report.reference:
                marked.append(len(rows))
            rows.append((_row_name(run, subnet), *(column.cell(subnet) for column in every)))
    return _section(
        "The chosen subnets",
        f"{_metric(runs)} on test images; faster: than the original network of the same run.",
        rows_table(heads, rows, marked=marked),
    )


def _row_name(run: Compared, subnet: SubnetReport) -> str:
    return f"{run.name}: {'original' if subnet is run.report.reference else subnet.name}"


def differing_options(runs: Sequence[Compared]) -> dict[str, tuple[Any, ...]]:
    """The options that are not the same in all runs, by path, with each run's value; None where it has none."""
    keys = dict.fromkeys(key for run in runs for key in run.options if key != "name")
    values = {key: tuple(run.options.get(key) for run in runs) for key in keys}
    return {key: own for key, own in values.items() if any(value != own[0] for value in own)}


def _options(runs: Sequence[Compared]) -> str:
    differing = differing_options(runs)
    rows = [(key, *(_shown(value) for value in values)) for key, values in differing.items()]
    caption = "All others are equal." if rows else "The runs have the same options."
    table = rows_table(("option", *(run.name for run in runs)), rows) if rows else ""
    return _section("Options that differ", caption, table)


def _shown(value: Any) -> str:
    text = "–" if value is None else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def _links(runs: Sequence[Compared]) -> str:
    links = "".join(
        f'<div class="files"><div><a href="{escape(quote(run.page))}">{escape(run.name)}</a></div></div>'
        for run in runs
        if run.page
    )
    return f"<section><h2>The runs’ own pages</h2>{links}</section>" if links else ""


def _section(title: str, caption: str, table: str) -> str:
    shown = f'<div class="scroll" tabindex="0">{table}</div>' if table else ""
    return f'<section><h2>{escape(title)}</h2><p class="caption">{escape(caption)}</p>{shown}</section>'
