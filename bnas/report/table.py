"""The table of the reference and the chosen subnets: its columns, on the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bnas.report.types import Finetuned, Report, SubnetReport
from bnas.report.words import (
    first_word,
    in_points,
    label_of,
    quantity_name,
    short,
    significant,
    size,
    times,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: two short lines for its head, the same in full, and the text of a network's cell."""

    head: tuple[str, str]
    title: str
    cell: Callable[[SubnetReport], str]


COLUMNS = (
    Column(
        head=("ms", "INT8"),
        title="Latency INT8, batch 1, median",
        cell=lambda s: significant(s.latency_ms),
    ),
    Column(
        head=("ms", "FP32"),
        title="Latency FP32, batch 1, median",
        cell=lambda s: significant(s.latency_fp32_ms),
    ),
    Column(
        head=("ms", "pred."),
        title="Latency INT8 as predicted",
        cell=lambda s: "–" if s.predicted_latency_ms is None else significant(s.predicted_latency_ms),
    ),
    Column(
        head=("faster", "vs FP32"),
        title="Speed-up against the FP32 original",
        cell=lambda s: times(s.speedup_vs_fp32),
    ),
    Column(
        head=("faster", "vs INT8"),
        title="Speed-up against the INT8 original",
        cell=lambda s: times(s.speedup_vs_int8),
    ),
    Column(
        head=("images", "per s"),
        title="Throughput INT8, images per second",
        cell=lambda s: f"{s.throughput_per_s:.0f}",
    ),
    Column(head=("MACs", ""), title="Multiply-accumulates per image", cell=lambda s: short(s.macs)),
    Column(head=("params", ""), title="Parameters", cell=lambda s: short(s.parameters)),
    Column(head=("file", "INT8"), title="File size INT8", cell=lambda s: size(s.size_bytes)),
)


def columns(report: Report) -> tuple[Column, ...]:
    """The columns of the report's table: the metric's, those of every run, and what only some runs have to tell."""
    return (*_of_metric(report.metric_label), *COLUMNS, *_of_details(report), *_of_finetuning(report))


def _of_metric(label: str) -> tuple[Column, ...]:
    shown = first_word(label)
    return (
        Column(
            head=(label, "FP32 %"),
            title=f"{shown} FP32, test images",
            cell=lambda s: f"{s.metric_fp32_percent:.2f}",
        ),
        Column(
            head=(label, "INT8 %"),
            title=f"{shown} INT8, test images",
            cell=lambda s: f"{s.metric_int8_percent:.2f}",
        ),
    )


def _of_details(report: Report) -> tuple[Column, ...]:
    """What the task tells besides of the INT8 networks."""
    names = dict.fromkeys(name for subnet in networks(report) for name in subnet.details)
    return tuple(
        Column(
            head=(label_of(name), "INT8 %" if in_points(name) else "INT8"),
            title=f"{quantity_name(name)}, INT8, test images",
            cell=partial(_detail, name),
        )
        for name in names
    )


def _detail(name: str, subnet: SubnetReport) -> str:
    value = subnet.details.get(name)
    return "–" if value is None else f"{value:.2f}"


def _of_finetuning(report: Report) -> tuple[Column, ...]:
    if not any(subnet.finetuned for subnet in networks(report)):
        return ()
    shown = f"{first_word(report.metric_label)} on the validation images"
    return (
        Column(
            head=("val. %", "before"),
            title=f"{shown} before fine-tuning",
            cell=lambda s: "–" if s.finetuned is None else f"{s.finetuned.before:.2f}",
        ),
        Column(
            head=("val. %", "tuned"),
            title=f"{shown} after fine-tuning",
            cell=lambda s: _after(s.finetuned),
        ),
    )


def _after(told: Finetuned | None) -> str:
    """The metric after fine-tuning, and whether its weights were left aside."""
    if told is None:
        return "–"
    return f"{told.after:.2f}" if told.kept else f"{told.after:.2f} left"


def networks(report: Report) -> tuple[SubnetReport, ...]:
    """The rows of the table: the reference first."""
    return (report.reference, *report.subnets)


def print_table(report: Report, console: Console | None = None) -> None:
    """Print the table: a network per row where the terminal has about 100 columns, else one per column."""
    from rich.console import Console

    console = console or Console()
    table = _wide(report)
    if table.__rich_measure__(console, console.options.update(width=1000)).maximum > console.width:
        table = _narrow(report)
    console.print(table)


def markdown_table(report: Report) -> str:
    """The table in Markdown."""
    rows = [("network", *(" ".join(filter(None, column.head)) for column in columns(report)))]
    rows.append(("---", *["---:"] * len(columns(report))))
    rows += [(s.name, *(column.cell(s) for column in columns(report))) for s in networks(report)]
    return "".join(f"| {' | '.join(_escaped(cell) for cell in row)} |\n" for row in rows)


def _wide(report: Report) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("network", no_wrap=True)
    for column in columns(report):
        table.add_column("\n".join(column.head).rstrip("\n"), justify="right", no_wrap=True)
    for subnet in networks(report):
        table.add_row(
            Text(subnet.name),
            *(column.cell(subnet) for column in columns(report)),
            style=_style(report, subnet),
        )
    return table


def _narrow(report: Report) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    for subnet in networks(report):
        table.add_column(Text(subnet.name), justify="right", style=_style(report, subnet), no_wrap=True)
    for column in columns(report):
        table.add_row(
            " ".join(filter(None, column.head)), *(column.cell(subnet) for subnet in networks(report))
        )
    return table


def _style(report: Report, subnet: SubnetReport) -> str:
    return "dim" if subnet is report.reference else ""


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;")
