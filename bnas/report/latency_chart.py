"""A latency campaign on the terminal: its errors as tables, residuals and drift as charts of braille dots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnas.report.chart import chart, scatter
from bnas.report.latency_words import (
    cost_rows,
    drift_sentence,
    error_cells,
    kind_name,
    latency_headline,
    learning_rows,
    off_percent,
)
from bnas.report.types import Curve, LatencyReport
from bnas.report.words import significant

if TYPE_CHECKING:
    from rich.console import Console

_HEADS = ("samples", "mean error", "≤ 2 %", "≤ 5 %", "tau", "in bar")  # 80 characters have no room for more
_WIDTH, _HEIGHT = 34, 7  # characters of a chart


def print_latency(report: LatencyReport, console: Console | None = None) -> None:
    """Print how well the predictor does, beside baselines and other kinds, the errors as a chart, the reference's drift
    and what a subnet cost."""
    from rich.columns import Columns
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    console.print(Text(f"{report.run} · latency on {report.hw} · {kind_name(report.kind)}", style="bold"))
    console.print(Text(latency_headline(report)))
    for title, errors in (("on held-out subnets", report.held_out), ("by cross-validation", report.kinds)):
        if errors:
            rows = [(kind_name(error.kind), *error_cells(error)) for error in errors]
            _print_table(console, (title, *_HEADS), rows)
    heads, learning = learning_rows(report)
    if learning:
        _print_table(console, heads, learning)
    charts = [Text(text, no_wrap=True) for text in (residuals_chart(report), drift_chart(report)) if text]
    if charts:
        console.print(Columns(charts, padding=(1, 3)))
    if report.subnets:
        console.print(Text(drift_sentence(report)))
    if costs := cost_rows(report):
        _print_table(console, ("cost of a subnet", "median", "largest", "in all"), costs)
    for note in report.notes:
        console.print(Text(note))


def residuals_chart(report: LatencyReport) -> str:
    """The prediction's error in per cent by measured latency, one dot for each subnet; empty without predictions."""
    places = [(s.measured_ms, off) for s in report.subnets if (off := off_percent(s)) is not None]
    if not places:
        return ""
    reach = max(abs(off) for _, off in places) or 1.0
    labels = [f"{reach:+.3g}", *[""] * (_HEIGHT // 2 - 1), "0", *[""] * (_HEIGHT // 2 - 1), f"{-reach:+.3g}"]
    margin = max(map(len, labels))
    low, high = (significant(f(x for x, _ in places)) for f in (min, max))
    lines = scatter([x for x, _ in places], [y for _, y in places], (-reach, reach), _WIDTH, _HEIGHT)
    return "\n".join(
        (
            f"{'':{margin}}  prediction’s error, %, by measured ms",
            *(f"{label:>{margin}} ┤{line}" for label, line in zip(labels, lines, strict=True)),
            f"{'':{margin}}  {low}{high:>{_WIDTH - len(low)}}",
        )
    )


def drift_chart(report: LatencyReport) -> str:
    """The reference's latency by the second of the campaign; empty with fewer than two subnets."""
    if len(report.subnets) < 2:
        return ""
    subnets = sorted(report.subnets, key=lambda subnet: subnet.began)
    steps = tuple(round(subnet.began - subnets[0].began) for subnet in subnets)
    values = tuple(subnet.reference_ms for subnet in subnets)
    return chart(
        Curve(name="reference, ms, by second", steps=steps, values=values), width=_WIDTH, height=_HEIGHT
    )


def _print_table(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(heads[0], overflow="fold")
    for head in heads[1:]:
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
    console.print()
