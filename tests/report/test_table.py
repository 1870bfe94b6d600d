from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from bnas.report import Finetuned, markdown_table, print_table
from bnas.report.table import columns


def printed(report, width: int) -> list[str]:
    console = Console(file=StringIO(), width=width)
    print_table(report, console)
    return console.file.getvalue().rstrip("\n").split("\n")


B_CELLS = (
    "91.38 91.26 0.842 2.53 0.868 5.78× 1.92× 2404 17.1 M 379 k 435 kB".replace(" M", "_M")
    .replace(" k ", "_k ")
    .replace(" kB", "_kB")
    .split()
)


def cells(line: str) -> list[str]:
    for unit in ("M", "k", "G", "MB", "kB"):
        line = line.replace(f" {unit} ", f"_{unit} ")
    return line.split()


def test_a_network_per_row_in_100_columns(make_report):
    lines = printed(make_report(), 100)
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines[3:]] == ["reference", "A", "B", "C"]
    assert cells(f"{lines[5]} ") == ["B", *B_CELLS]


@pytest.mark.parametrize("width", [52, 80])
def test_a_network_per_column_where_that_does_not_fit(make_report, width):
    lines = printed(make_report(), width)
    assert max(map(len, lines)) <= width
    assert lines[0].split() == ["reference", "A", "B", "C"]
    assert len(lines) == 2 + len(columns(make_report()))
    row = next(line for line in lines if line.startswith("ms INT8"))
    assert row.split() == ["ms", "INT8", "1.62", "1.17", "0.842", "0.292"]


def test_names_are_text_not_markup(make_report):
    report = make_report()
    odd = replace(report.subnets[0], name="[red]x[/red]")
    assert "[red]x[/red]" in "\n".join(printed(make_report(subnets=(odd,)), 120))


def test_markdown_has_every_network_and_column(make_report):
    lines = markdown_table(make_report()).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0][:3] == ["network", "top-1 FP32 %", "top-1 INT8 %"]
    assert {len(row) for row in rows} == {1 + len(columns(make_report()))} == {12}
    assert [row[0] for row in rows[2:]] == ["reference", "A", "B", "C"]
    assert [cell.replace(" ", "_") for cell in rows[4][1:]] == B_CELLS


def test_markdown_escapes_names(make_report):
    odd = replace(make_report().subnets[0], name="a|b<script>")
    assert "| a\\|b&lt;script> |" in markdown_table(make_report(subnets=(odd,)))


def test_fine_tuning_has_columns_only_where_there_was_some(make_report):
    report = make_report()
    assert "tuned" not in markdown_table(report)
    gain = Finetuned(metric="top1_percent", before=90.5, after=91.25, kept=True, images=2000)
    worse = replace(gain, after=90.0, kept=False)
    a, b, c = report.subnets
    rows = markdown_table(
        make_report(subnets=(replace(a, finetuned=gain), replace(b, finetuned=worse), c))
    ).splitlines()
    ends = [tuple(cell.strip() for cell in row.split("|")[-3:-1]) for row in rows]
    assert ends[0] == ("val. % before", "val. % tuned")
    assert ends[2:] == [("–", "–"), ("90.50", "91.25"), ("90.50", "90.00 left"), ("–", "–")]
