"""The page's sections about every subnet that was evaluated, and about the search that chose them."""

from __future__ import annotations

from html import escape
from typing import Any

from bnas.report.explore import AXES, LINES
from bnas.report.foretold import OFF_HEADS, off_rows
from bnas.report.importance import needed
from bnas.report.search_plots import taus
from bnas.report.sections import rows_table
from bnas.report.types import Importance, Report
from bnas.report.words import quantity_name

WEAK_R2 = 0.3


def explored_sections(report: Report) -> str:
    """Parallel coordinates and the table of the evaluations, which the page's script fills."""
    lines = (
        '<section aria-labelledby="parallel-title"><h2 id="parallel-title">Choice by choice</h2>'
        f'<p class="caption">{escape(_parallel_caption(report))}</p>'
        '<div class="board"><div class="toolbar"><span>coloured by</span>'
        '<span id="colours" role="group" aria-label="Coloured by"></span>'
        '<span id="scale" aria-hidden="true"></span><span class="count"></span></div>'
        '<svg id="parallel" role="img" aria-label="Parallel coordinates"></svg></div></section>'
    )
    table = (
        '<section aria-labelledby="evaluations-title"><h2 id="evaluations-title">Every evaluated subnet</h2>'
        f'<p class="caption"><span class="count"></span>{escape(_evaluations_caption(report))}</p>'
        '<div class="scroll" tabindex="0"><table id="evaluations"></table></div>'
        '<p class="more"><button type="button" id="more" hidden></button></p></section>'
    )
    if not report.evaluations:
        return ""
    return (lines if report.choices and any(e.indices for e in report.evaluations) else "") + table


def _parallel_caption(report: Report) -> str:
    count = len(report.choices)
    shown = (
        f"The {AXES} of {count} choices that matter most"
        if count > AXES and any(own.scores for own in report.importance)
        else f"{AXES} of {count} choices"
        if count > AXES
        else "All choices"
    )
    most = f", of {LINES:,} subnets at most" if len(report.evaluations) > LINES else ""
    return (
        f"{shown}, latency and accuracy{most}. A line is a subnet; select points above, or limit them, to see only "
        "theirs. Strong colours are good ones."
    )


def _evaluations_caption(report: Report) -> str:
    told = ". Click one to pin it."
    if report.failed:
        told += f" {failed_sentence(report)}"
    return told


def failed_sentence(report: Report) -> str:
    """How many subnets could not be evaluated, and why."""
    count = sum(report.failed.values())
    reasons = "; ".join(
        f"{reason} ({times})" if len(report.failed) > 1 else reason
        for reason, times in sorted(report.failed.items(), key=lambda item: (-item[1], item[0]))
    )
    return f"{count} {'subnets' if count > 1 else 'subnet'} could not be evaluated: {reasons}."


def importance_caption(report: Report) -> str:
    """What the importance is, and how far it can be trusted."""
    few = [own for own in report.importance if not own.scores]
    if len(few) == len(report.importance):
        samples = max((own.samples for own in few), default=0)
        return (
            f"Not enough subnets to tell: {samples} were evaluated, {needed(len(report.choices))} are needed."
            if samples < needed(len(report.choices))
            else "All evaluated subnets are alike."
        )
    told = ", ".join(
        f"{own.r2:.2f} for {quantity_name(own.value)}" for own in report.importance if own.r2 is not None
    )
    samples = max(own.samples for own in report.importance)
    weak = (
        f"; below {WEAK_R2:g}, bars are little more than chance"
        if any(_is_weak(own) for own in report.importance)
        else ""
    )
    return (
        f"Variance that is lost when a choice is shuffled among {samples} subnets, by a ridge regression. "
        f"Its cross-validated R²: {told}{weak}."
    )


def _is_weak(own: Importance) -> bool:
    return own.r2 is not None and own.r2 < WEAK_R2


def progress_caption(report: Report) -> str:
    told = "Share of the box between the largest and the smallest subnet that the front dominates."
    last = {name: points[-1][1] for name, points in taus(report).items()}
    if last:
        order = ", ".join(f"{tau:.2f} for {quantity_name(name)}" for name, tau in last.items())
        told += f" Dotted: order of each round as foretold against as found (Kendall’s tau, at last {order})."
    return told


def off_table(report: Report) -> str:
    """How far the search's own values were off on the members of the front that were measured."""
    rows = off_rows(report)
    if not rows:
        return ""
    return (
        '<section><h2>How far off the search was</h2><p class="caption">Its values of the front’s measured members '
        "against the measurements, in per cent of these or in points. "
        f"The search saw {escape(report.metric_label)} before INT8.</p>"
        f'<div class="scroll" tabindex="0">{rows_table(OFF_HEADS, rows)}</div></section>'
    )


def search_facts(report: Report) -> dict[str, Any]:
    """The algorithm, its options, and what it was given to decide by."""
    told = {"max": "large", "min": "small"}
    facts: dict[str, Any] = {
        "objectives": "; ".join(
            f"{quantity_name(own.name)} ({told[own.direction]})" for own in report.objectives
        ),
        "constraints": "; ".join(map(str, report.constraints)),
        "subnets evaluated": len(report.evaluations) or "",
        "subnets failed": sum(report.failed.values()) or "",
        "images that it decided by": report.search_images or "",
        "images that decided nothing": report.report_images or "",
    }
    own = {
        name: x
        for name, x in report.search.items()
        if name not in ("objectives", "constraints") and x not in ({},)
    }
    first = {"algorithm": own.pop("algorithm")} if "algorithm" in own else {}
    return {name: x for name, x in (first | facts | own).items() if x not in ("", None)}
