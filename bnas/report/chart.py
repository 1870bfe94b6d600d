"""Curves on the terminal: line charts of braille dots, and a table of the values at their ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bnas.report.types import Curve, Training
from bnas.report.words import curve_cells, number, short

if TYPE_CHECKING:
    from rich.console import Console

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille character, by row and column
_WIDTH, _HEIGHT = 28, 4  # characters of a chart
_NO_CHART = frozenset({"images_per_s"})  # its numbers in the table say enough
_MOST_CHARTS = 9  # those of further subnets are in the table alone


def print_training(training: Training, console: Console | None = None) -> None:
    """Print a training's curves: a table of all, charts side by side of those that have two points or more."""
    from rich import box
    from rich.columns import Columns
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console()
    console.print(Text(_title(training), style="bold"))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("curve", overflow="fold")
    for head in ("points", "first", "last", "best", "at step"):
        table.add_column(head, justify="right", no_wrap=True)
    for curve in training.curves:
        table.add_row(Text(curve.name), *curve_cells(curve))
    console.print(table)
    charts = [curve for curve in training.curves if len(curve.values) > 1 and curve.name not in _NO_CHART]
    if charts:
        console.print(
            Columns([Text(chart(curve), no_wrap=True) for curve in charts[:_MOST_CHARTS]], padding=(1, 3))
        )


def chart(curve: Curve, width: int = _WIDTH, height: int = _HEIGHT) -> str:
    """A curve as `height` lines of dots, `width` characters each, between its name and its first and last step."""
    high, low = (number(value) for value in (max(curve.values), min(curve.values)))
    margin = max(len(high), len(low))
    labels = [high, *[""] * (height - 2), low] if height > 1 else [high]
    steps = f"{curve.steps[0]:,}", f"{curve.steps[-1]:,}"
    return "\n".join(
        (
            f"{'':{margin}}  {curve.name}"[: margin + width + 2],
            *(
                f"{label:>{margin}} ┤{line}"
                for label, line in zip(labels, dots(curve.steps, curve.values, width, height), strict=True)
            ),
            f"{'':{margin}}  {steps[0]}{steps[1]:>{max(0, width - len(steps[0]))}}",
        )
    )


def dots(x: Sequence[float], y: Sequence[float], width: int, height: int) -> list[str]:
    """A line through (x, y), x rising, as `height` lines of `width` braille characters of 2 × 4 dots.

    Each of the 2 · width columns shows the mean of the points that fall in it, or what lies on the line between
    those to its sides; a constant is drawn in the middle.
    """
    columns, rows = 2 * width, 4 * height
    values = np.asarray(y, dtype=np.float64)
    place = np.asarray(x, dtype=np.float64) - x[0]
    column = np.rint(place / (place[-1] or 1.0) * (columns - 1)).astype(np.int64)
    count = np.bincount(column, minlength=columns)
    mean = np.bincount(column, values, minlength=columns) / np.maximum(count, 1)
    filled = np.interp(np.arange(columns), np.flatnonzero(count), mean[count > 0])
    low, high = values.min(), values.max()
    share = (high - filled) / (high - low) if high > low else np.full(columns, 0.5)
    row = np.rint(share * (rows - 1)).astype(np.int64)
    picture = np.zeros((rows, columns), dtype=bool)
    for at in range(columns):
        before = row[max(at - 1, 0)]
        for dot in range(min(before, row[at]), max(before, row[at]) + 1):
            if dot != before or before == row[at]:  # the step from the row before is drawn here
                picture[dot, at] = True
    return braille(picture)


def scatter(
    x: Sequence[float], y: Sequence[float], span: tuple[float, float], width: int, height: int
) -> list[str]:
    """Points (x, y) as `height` lines of `width` braille characters; `span`: what y is in the lowest row of dots and
    in the highest. Points beyond it are not drawn."""
    columns, rows = 2 * width, 4 * height
    across = np.asarray(x, dtype=np.float64) - min(x)
    column = np.rint(across / (across.max() or 1.0) * (columns - 1)).astype(np.int64)
    low, high = span
    row = np.rint((high - np.asarray(y, dtype=np.float64)) / (high - low) * (rows - 1)).astype(np.int64)
    inside = (row >= 0) & (row < rows)
    picture = np.zeros((rows, columns), dtype=bool)
    picture[row[inside], column[inside]] = True
    return braille(picture)


def braille(picture: NDArray[np.bool_]) -> list[str]:
    """A picture [4 · lines, 2 · characters] of dots as lines of braille characters."""
    rows, columns = picture.shape
    cells = np.zeros((rows // 4, columns // 2), dtype=np.int64)
    for row, bits in enumerate(_DOTS):
        for column, bit in enumerate(bits):
            cells |= np.where(picture[row::4, column::2], bit, 0)
    return ["".join(chr(0x2800 + int(cell)) for cell in line) for line in cells]


def _title(training: Training) -> str:
    told = [training.name, f"to step {training.last_step:,}"]
    told += [f"{stage} to {end:,}" for stage, end in training.ends]
    if training.macs:
        told.append(f"{short(min(training.macs))} to {short(max(training.macs))} MACs in the subnets drawn")
    return " · ".join(told)
