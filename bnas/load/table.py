"""The table of a bench on the terminal: a line for each scenario and network, then why what is invalid is so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnas.load.rows import Comparison, LoadRow

if TYPE_CHECKING:
    from rich.console import Console

TOP1 = "top-1 %"
HEAD = (
    "scenario", "network", "samples/s", "±", "p50 ms", "p90 ms", "p99 ms", "valid", TOP1, "× FP32", "× INT8", "÷ MACs",
)  # fmt: skip
WIDTH = 140


def lines_of(rows: Sequence[LoadRow], comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """The cells of each line, under `HEAD`; "–" where there is nothing to say.

    Latencies of Offline are left out: there all images are asked at once.
    """
    lines = []
    for row, own in zip(rows, comparisons, strict=True):
        timed = row.scenario != "Offline"
        lines.append(
            (
                row.scenario,
                row.network,
                _number(row.samples_per_s),
                f"{row.spread_percent / 2:.1f} %",
                *(_number(ms) if timed else "–" for ms in (row.p50_ms, row.p90_ms, row.p99_ms)),
                "yes" if row.valid else f"NO ({row.valid_rounds}/{len(row.by_round)})",
                "–" if row.top1_percent is None else f"{row.top1_percent:.2f}",
                *("–" if x is None else f"{x:.2f}" for x in (own.to_fp32, own.to_int8, own.per_macs)),
            )
        )
    return lines


def print_load(
    rows: Sequence[LoadRow], comparisons: Sequence[Comparison], console: Console | None = None
) -> None:
    """Print the table, and LoadGen's reasons for what is not valid. Without accuracies it has no column of them."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console()
    table = Table(title="Under load (MLCommons LoadGen), medians over rounds", box=SIMPLE, padding=(0, 1))
    accurate = any(row.top1_percent is not None for row in rows)
    shown = [place for place, name in enumerate(HEAD) if name != TOP1 or accurate]
    for place in shown:
        table.add_column(HEAD[place], justify="left" if place < 2 else "right", no_wrap=True)
    last = ""
    for line in lines_of(rows, comparisons):
        if last and line[0] != last:
            table.add_section()
        cells = ("" if line[0] == last else line[0], *line[1:])
        table.add_row(*(Text(cells[place]) for place in shown))
        last = line[0]
    console.width = max(console.width, WIDTH)  # a narrow terminal wraps lines; no number is cut off
    console.print(table)
    for row in rows:
        if not row.valid:
            console.print(
                f"{row.scenario} {row.network}: INVALID: {' '.join(row.reasons)}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )


def _number(x: float) -> str:
    """Three significant digits, no exponent."""
    digits = 0 if x >= 100 else 1 if x >= 10 else 2 if x >= 1 else 3
    return f"{x:.{digits}f}"
