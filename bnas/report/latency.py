"""latency.html: a latency campaign and its predictor as one page."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from urllib.parse import quote

from bnas.files import write_text
from bnas.report.figure import Figure
from bnas.report.html import facts_list, notes_box
from bnas.report.latency_plots import latency_figures
from bnas.report.latency_words import (
    ERROR_HEADS,
    cost_rows,
    drift_sentence,
    error_cells,
    held_out_count,
    kept_error,
    kind_name,
    latency_headline,
    learning_rows,
    off_percent,
)
from bnas.report.sections import plot_section, rows_table, sections_page
from bnas.report.types import LatencyReport, TimedSubnet
from bnas.report.words import short, significant, size

PAGE = "latency.html"
_PLACE = "latency-"  # before a figure's name: its place on the page


def write_latency(report: LatencyReport, folder: Path) -> Path:
    """Write `latency.html` into `folder`; returns its path.

    Raises:
        MissingPackageError: plotly is not installed.
        RunError: the file cannot be written.
    """
    path = folder / PAGE
    write_text(path, latency_page(report))
    return path


def latency_page(report: LatencyReport) -> str:
    """The page's HTML, one file without a request; every name in it is escaped.

    Raises:
        MissingPackageError: plotly is not installed.
    """
    figures = {f"{_PLACE}{name}": figure for name, figure in latency_figures(report).items()}
    sections = [
        notes_box(report.notes),
        _plot(figures, "predicted", "Predicted against measured", predicted_caption(report), "tall"),
        _pair(
            _plot(figures, "residuals", "Errors of the predictions", _RESIDUALS),
            _plot(figures, "learning", "How many measurements it takes", _LEARNING),
        ),
        _errors(report),
        _plot(figures, "drift", "Drift of the reference", drift_sentence(report) if report.subnets else ""),
        _pair(
            _plot(figures, "errors", "Error of each measurement", _ERRORS),
            _plot(figures, "cost", "What each subnet cost", _COST),
        ),
        _costs(report),
        _subnets(report),
        _facts(report),
    ]
    cpu = report.hardware.get("cpu")
    return sections_page(
        title=f"{report.run} · bnas latency",
        eyebrow=" · ".join(filter(None, (report.run, f"latency on {report.hw}", str(cpu) if cpu else ""))),
        headline=latency_headline(report),
        lead=_lead(report),
        sections=[section for section in sections if section],
        figures=figures,
    )


def latency_summary(report: LatencyReport) -> str:
    """The predictor's section of report.html: its errors and a link to the page of this campaign."""
    link = f"latency/{quote(report.hw)}/{PAGE}"
    figures = latency_summary_figures(report)
    errors = [(kind_name(error.kind), *error_cells(error)) for error in report.held_out]
    others = [i for i, error in enumerate(report.held_out) if error.kind != report.kind]
    table = rows_table(("predictor", *ERROR_HEADS), errors, marked=others) if errors else ""
    return (
        f'<section><h2>Latency predictor</h2><p class="caption">{escape(latency_headline(report))} '
        f'<a href="{link}">The whole campaign</a></p>'
        + (f'<div class="scroll" tabindex="0">{table}</div>' if table else "")
        + "</section>"
        + _plot(figures, "predicted", "Predicted against measured, whole space", predicted_caption(report))
    )


def latency_summary_figures(report: LatencyReport) -> dict[str, Figure]:
    """The figures of `latency_summary`, by their places."""
    return {
        f"{_PLACE}{name}": figure for name, figure in latency_figures(report).items() if name == "predicted"
    }


def predicted_caption(report: LatencyReport) -> str:
    """What the plot of predicted against measured latency shows."""
    told = (
        "Each subnet is predicted by a model that was fitted without it. "
        f"Bars: where {report.coverage_percent:g} % of measurements should lie"
    )
    error = kept_error(report)
    if error is not None and error.covered_percent is not None:
        told += f" ({error.covered_percent:.0f} % of the held-out ones do)"
    return f"{told}; shaded: ±5 %; crosses: a straight line through MACs."


_RESIDUALS = "Prediction against measurement, in per cent. Shaded: the measurement’s own error; dotted: ±5 %."
_LEARNING = (
    "Mean error on the same held-out subnets, by how many others each kind of predictor was fitted to."
)
_ERRORS = "Half the width of the 95 % confidence interval of the ratio to the reference."
_COST = "Seconds to extract, deploy, compile and time each subnet."


def _lead(report: LatencyReport) -> str:
    told = [f"{len(report.subnets):,} subnets were timed beside a reference"]
    if held_out_count(report):
        told.append(f"{held_out_count(report):,} of them were drawn at random and held out")
    told.append(f"the predictor that was kept is: {kind_name(report.kind)}")
    if report.noise_percent is not None:
        told.append(f"two timings of one subnet differ by {report.noise_percent:.2f} %")
    return f"{'; '.join(told)}."


def _plot(figures: dict[str, Figure], name: str, title: str, caption: str, height: str = "small") -> str:
    if (place := f"{_PLACE}{name}") not in figures:
        return ""
    return plot_section(place, title, caption, height, level=2)


def _pair(*plots: str) -> str:
    return f'<div class="pair">{"".join(plots)}</div>' if any(plots) else ""


def _errors(report: LatencyReport) -> str:
    """The held-out errors beside the baselines', the kinds that were compared, the learning curves as numbers."""
    told = ""
    for title, caption, errors in (
        ("On held-out subnets", "The kind that was kept, and the baselines it has to beat.", report.held_out),
        ("Kinds compared", "By cross-validation on the subnets that it was fitted to.", report.kinds),
    ):
        if errors:
            rows = [(kind_name(error.kind), *error_cells(error)) for error in errors]
            others = [i for i, error in enumerate(errors) if error.kind != report.kind]
            table = rows_table(("predictor", *ERROR_HEADS), rows, marked=others)
            told += _table_section(title, caption, table)
    heads, rows_ = learning_rows(report)
    if rows_:
        told += _table_section("Mean error by samples", _LEARNING, rows_table(heads, rows_))
    return told


def _costs(report: LatencyReport) -> str:
    rows = cost_rows(report)
    if not rows:
        return ""
    table = rows_table(("step", "median", "largest", "in all"), rows)
    return _table_section("Cost of the campaign", "Of one subnet, and of all that were timed.", table)


def _table_section(title: str, caption: str, table: str) -> str:
    return (
        f'<section><h2>{title}</h2><p class="caption">{caption}</p>'
        f'<div class="scroll" tabindex="0">{table}</div></section>'
    )


def _subnets(report: LatencyReport) -> str:
    """Every subnet as a row, those that are predicted worst first."""
    if not report.subnets:
        return ""
    worst_first = sorted(report.subnets, key=lambda subnet: -abs(off_percent(subnet) or 0.0))
    cells = {head: [cell(subnet) for subnet in worst_first] for head, cell in _COLUMNS.items()}
    known = {head: column for head, column in cells.items() if any(text != "–" for text in column)}
    table = rows_table(tuple(known), list(zip(*known.values(), strict=True)))
    return (
        f"<section><h2>All subnets</h2><details><summary>{len(report.subnets):,} subnets, those that are "
        f'predicted worst first</summary><div class="scroll" tabindex="0">{table}</div></details></section>'
    )


def _or_dash(text: Callable[[float], str], value: float | None) -> str:
    return "–" if value is None else text(value)


_COLUMNS: dict[str, Callable[[TimedSubnet], str]] = {
    "subnet": lambda subnet: subnet.config_digest[:8],
    "role": lambda subnet: subnet.role.replace("_", " "),
    "MACs": lambda subnet: short(subnet.macs),
    "measured, ms": lambda subnet: significant(subnet.measured_ms, 4),
    "± %": lambda subnet: f"{subnet.error_percent:.2f}",
    "predicted, ms": lambda subnet: _or_dash(lambda ms: significant(ms, 4), subnet.predicted_ms),
    "error": lambda subnet: _or_dash(lambda off: f"{off:+.2f} %", off_percent(subnet)),
    "rounds": lambda subnet: f"{subnet.rounds:,}",
    "disturbed": lambda subnet: f"{subnet.disturbed:,}",
    "size": lambda subnet: _or_dash(lambda count: size(int(count)), subnet.size_bytes),
    "memory": lambda subnet: _or_dash(lambda count: size(int(count)), subnet.memory_bytes),
    "energy, mJ": lambda subnet: _or_dash(significant, subnet.energy_mj),
}


def _facts(report: LatencyReport) -> str:
    told = [("Hardware", report.hardware), ("Protocol", report.protocol)]
    lists = "".join(facts_list(title, facts) for title, facts in told if facts)
    return f'<section><h2>How it was measured</h2><div class="facts">{lists}</div></section>' if lists else ""
