"""The report as one HTML file: figures, numbers and commands; opens offline, asks the network for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from bnas.errors import require
from bnas.report.downloads import downloads_section
from bnas.report.explore import Explored
from bnas.report.explore_section import (
    explored_sections,
    importance_caption,
    off_table,
    progress_caption,
    search_facts,
)
from bnas.report.figure import Figure
from bnas.report.foretold import foretold_ms
from bnas.report.front_axes import limited_axes
from bnas.report.html import facts_list, many, notes_box, script_json
from bnas.report.latency import latency_summary, latency_summary_figures
from bnas.report.plots import figures, spread_text
from bnas.report.table import columns, networks
from bnas.report.types import LatencyReport, Report, SubnetReport
from bnas.report.words import first_word, headline, points, short, significant, size, times

SMALL_PLOTS = {
    "importance": "Which choices matter",
    "progress": "Progress of the search",
    "prediction": "Prediction against measurement",
}
SCRIPTS = ("page.js", "parallel.js", "evaluations.js", "explore.js")


def page(report: Report, latency: LatencyReport | None = None) -> str:
    """The page's HTML; every name in it is escaped. `latency`: the campaign that the predictor was fitted to.

    Raises:
        MissingPackageError: plotly is not installed.
    """
    plotly = require("plotly.offline", "report").get_plotlyjs()
    drawn = figures(report) | (latency_summary_figures(latency) if latency else {})
    here = files("bnas.report")
    return Template((here / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{report.run} · bnas report"),
        css=(here / "page.css").read_text(encoding="utf-8").rstrip(),
        js="\n".join((here / name).read_text(encoding="utf-8").rstrip() for name in SCRIPTS),
        plotly=plotly,
        figures=script_json(drawn),
        eyebrow=escape(" · ".join(filter(None, (report.run, report.dataset, _cpu(report))))),
        headline=escape(headline(report)),
        lead=escape(_lead(report)),
        notes=notes_box(report.notes),
        cards="\n".join(_card(report, subnet) for subnet in report.subnets),
        front_caption=escape(_front_caption(report, drawn["front"])),
        explored=explored_sections(report),
        data=script_json(Explored(report).data()),
        small_plots="\n".join(
            (*(_small_plot(report, place, place in drawn) for place in SMALL_PLOTS), off_table(report))
        ),
        downloads=downloads_section(report),
        latency=latency_summary(latency) if latency else "",
        table_caption=escape(_table_caption(report)),
        table=_table(report),
        choices_caption=escape(_choices_caption(report)),
        choices=_choices(report),
        commands="\n".join(_command(subnet) for subnet in networks(report) if subnet.command),
        facts="\n".join(
            facts_list(title, facts)
            for title, facts in (
                ("Hardware", report.hardware),
                ("Search", search_facts(report)),
                ("Protocol", report.protocol),
                ("Latency model", _without(report.latency_model, hardware=report.hardware)),
                ("Search space", report.space),
            )
            if facts
        ),
    )


def _cpu(report: Report) -> str:
    for key in ("cpu", "cpu_model", "name"):
        if isinstance(value := report.hardware.get(key), str):
            return value
    return ""


def _lead(report: Report) -> str:
    original = report.reference
    return (
        f"The original network takes {significant(original.latency_fp32_ms)} ms as FP32 and "
        f"{significant(original.latency_ms)} ms as INT8, at {original.metric_fp32_percent:.2f} % and "
        f"{original.metric_int8_percent:.2f} % {report.metric_label}. "
        f"{len(report.evaluations)} subnets were evaluated, {_measured(report)} of the front’s "
        f"{len(report.front)} quantized and measured. "
        f"A subnet’s loss is its INT8 {report.metric_label} against the FP32 original’s."
    )


def _card(report: Report, subnet: SubnetReport) -> str:
    original = report.reference
    gain = points(subnet.metric_int8_percent - original.metric_fp32_percent)
    predicted = subnet.predicted_latency_ms
    pairs: tuple[tuple[str, str], ...] = (
        (escape(f"{first_word(report.metric_label)} INT8"), f"{subnet.metric_int8_percent:.2f} %"),
        ("vs original", f"{gain} <small>pts</small>"),
        ("Images/s", short(subnet.throughput_per_s)),
        ("MACs", short(subnet.macs)),
        ("Parameters", short(subnet.parameters)),
        ("INT8 file", size(subnet.size_bytes)),
        ("Predicted", "–" if predicted is None else f"{significant(predicted)} ms"),
        ("p10–p90", f"{spread_text(subnet.latency_p10_ms, subnet.latency_p90_ms)} ms"),
    )
    if (tuned := subnet.finetuned) is not None:
        told = f"{points(tuned.after - tuned.before)} pts{'' if tuned.kept else ', left as it was'}"
        value = f"{tuned.before:.2f} → {tuned.after:.2f} % <small>{told}</small>"
        pairs += (("Fine-tuned, validation images", value),)
    widths = {"p10–p90": "wide", "Fine-tuned, validation images": "whole"}
    bars = (
        ("FP32 original", original.latency_fp32_ms, ""),
        ("INT8 original", original.latency_ms, ""),
        (f"Subnet {subnet.name}", subnet.latency_ms, " own"),
    )
    longest = max(latency for _, latency, _ in bars)
    return (
        f'<article class="card {_tone(subnet)}">'
        f'<header><span class="badge">{escape(subnet.name)}</span> {_role(report, subnet)}</header>'
        f'<p class="big">{times(subnet.speedup_vs_int8)}<small>vs INT8 original<br>'
        f"{times(subnet.speedup_vs_fp32)} vs FP32 original</small></p>"
        '<div class="bars">'
        + "".join(
            f'<div class="bar{own}"><span>{escape(name)}</span>'
            f'<i style="width:{100 * latency / longest:.1f}%"></i><b>{significant(latency)} ms</b></div>'
            for name, latency, own in bars
        )
        + "</div><dl>"
        + "".join(
            f'<div class="{widths.get(name, "")}"><dt>{name}</dt><dd>{value}</dd></div>'
            for name, value in pairs
        )
        + "</dl></article>"
    )


def _role(report: Report, subnet: SubnetReport) -> str:
    """What the subnet was chosen for, on the validation images."""
    if subnet.name != "B":
        return {"A": "largest accuracy", "C": "smallest latency"}.get(subnet.name, "")
    chosen = next((p.metric_int8_percent for p in report.front if "B" in p.names), None)
    if chosen is not None and report.reference_val_fp32_percent - chosen >= report.loss_points:
        return "smallest loss there is"
    return f"fastest under {report.loss_points:g} point{'s' * (report.loss_points != 1)} of loss"


def _tone(subnet: SubnetReport) -> str:
    return subnet.name if subnet.name in ("A", "B", "C") else ""


def _front_caption(report: Report, figure: Figure) -> str:
    below = figure["layout"]["meta"]["below"]
    caption = (
        f"{first_word(report.metric_label)} here is on the validation images that the search used. A thin line joins "
        "what was predicted of a subnet to what was measured; bars span the 10th to the 90th percentile."
    )
    if figure["layout"]["shapes"]:
        limits = [str(own) for own in report.constraints if own.name in limited_axes(report)]
        caption += f" Dashed: {' and '.join(limits)}, which the search had to keep."
    if below:
        lie = "subnets lie" if below > 1 else "subnet lies"
        caption += (
            f" {below} evaluated {lie} below the shown range; the plot’s button Autoscale shows everything."
        )
    return caption


def _small_plot(report: Report, place: str, is_drawn: bool) -> str:
    """A plot with its caption; the caption alone where that says why there is none."""
    if not is_drawn and not (place == "importance" and report.importance):
        return ""
    caption = {
        "importance": importance_caption(report) if report.importance else "",
        "progress": progress_caption(report),
        "prediction": f"Latency of {_off(report)}. On the dotted line, prediction and measurement agree.",
    }[place]
    plot = f'<div class="plot small"><div id="{place}"></div></div>' if is_drawn else ""
    return f'<section><h2>{SMALL_PLOTS[place]}</h2><p class="caption">{escape(caption)}</p>{plot}</section>'


def _table_caption(report: Report) -> str:
    """On which images the numbers are, and on which the search decided."""
    decided = "The search decided by validation images"
    if report.search_images:
        decided = f"The search decided by {report.search_images:,} validation images"
    shown = f"the {report.report_images:,} test images" if report.report_images else "the test images"
    told = (
        f"{decided}; {report.metric_label} here is on {shown}, which neither training nor search nor choice has seen. "
        "Latencies are medians at batch 1, measured in turn with the original."
    )
    if any(subnet.finetuned for subnet in report.subnets):
        told += (
            f" Before and after fine-tuning: {report.metric_label} of the torch module on the validation images; "
            "left: the new weights were not taken."
        )
    return told


def _measured(report: Report) -> int:
    return sum(point.latency_ms is not None for point in report.front)


def _off(report: Report) -> str:
    """How many members of the front were measured, and how far prediction was off on average."""
    errors = [abs(foretold_ms(p) / p.latency_ms - 1) for p in report.front if p.latency_ms]
    mean = 100 * sum(errors) / max(len(errors), 1)
    return f"the {len(errors)} measured members of the front, {mean:.1f} % off on average"


def _table(report: Report) -> str:
    heads = "".join(
        f'<th scope="col" title="{escape(column.title)}">{"<br>".join(filter(None, column.head))}</th>'
        for column in columns(report)
    )
    rows = "".join(
        f'<tr class="{"reference" if subnet is report.reference else _tone(subnet)}">'
        f'<th scope="row">{_name(report, subnet)}</th>'
        + "".join(f"<td>{escape(column.cell(subnet))}</td>" for column in columns(report))
        + "</tr>"
        for subnet in networks(report)
    )
    return f'<table><thead><tr><th scope="col">network</th>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _name(report: Report, subnet: SubnetReport) -> str:
    name = escape(subnet.name)
    return name if subnet is report.reference else f'<span class="badge">{name}</span>'


def _choices_caption(report: Report) -> str:
    kept = "Bars show how much of the original each choice keeps."
    count = report.space.get("size")
    return f"{kept} The space holds {many(count)} subnets." if isinstance(count, int) else kept


def _choices(report: Report) -> str:
    """Each choice's value in every network, beside the original's."""
    original = report.reference.config
    shown = networks(report)
    heads = "".join(f'<th scope="col">{escape(subnet.name)}</th>' for subnet in shown)
    rows = "".join(
        f'<tr><th scope="row">{escape(choice)}</th>'
        + "".join(
            f'<td class="{_tone(subnet)}">{_value(subnet.config.get(choice), largest)}</td>'
            for subnet in shown
        )
        + "</tr>"
        for choice, largest in original.items()
    )
    return (
        f"<details><summary>{len(original)} choices in each of {len(report.subnets)} subnets</summary>"
        f'<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">choice</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _value(value: int | None, largest: int) -> str:
    if value is None:
        return "–"
    share = 100 * value / largest if largest else 0
    return f'<span class="value"><i style="width:{share:.0f}%"></i>{value}</span>'


def _command(subnet: SubnetReport) -> str:
    return (
        f'<div class="command {_tone(subnet)}"><span class="badge">{escape(subnet.name)}</span>'
        f'<code>{escape(subnet.command)}</code><button type="button">Copy</button></div>'
    )


def _without(facts: Mapping[str, Any], **told: Any) -> dict[str, Any]:
    """`facts` less those that the page tells elsewhere."""
    return {key: value for key, value in facts.items() if key not in told or told[key] != value}
