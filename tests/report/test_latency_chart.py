from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from bnas.report import print_latency
from bnas.report.latency_chart import drift_chart, residuals_chart


def printed(report, width=110):
    console = Console(file=io.StringIO(), width=width)
    print_latency(report, console)
    return console.file.getvalue()


def cells(lines):
    """(line, column) of the characters in which a dot is set."""
    return {(y, x) for y, line in enumerate(lines) for x, c in enumerate(line) if ord(c) > 0x2800}


def test_every_table_is_printed(make_latency):
    lines = [line.split() for line in printed(make_latency()).splitlines()]
    row = "Gaussian process 40 0.50 % 90.0 % 100.0 % 0.980 95.0 %"
    assert row.split() in lines
    assert ["ridge", "40", "0.75", "%", "–", "–", "–", "–"] in lines
    assert ["fitted", "to", "10", "20", "40"] in lines
    assert ["together", "1.625", "s", "1.625", "s", "97.5", "s"] in lines


def test_a_residual_is_where_it_belongs(make_latency):
    report = make_latency()
    base = replace(report.subnets[0], measured_ms=1.0, predicted_ms=1.08)
    below = replace(base, measured_ms=2.0, predicted_ms=1.84)
    middle = replace(base, measured_ms=1.5, predicted_ms=1.5)
    title, *lines, ends = residuals_chart(replace(report, subnets=(base, below, middle))).split("\n")
    assert "prediction’s error, %" in title
    assert [line.split("┤")[0].strip() for line in lines] == ["+8", "", "", "0", "", "", "-8"]
    drawn = [line.split("┤")[1] for line in lines]
    assert cells(drawn) == {(0, 0), (3, 17), (6, 33)}
    assert ends.split() == ["1.00", "2.00"]


def test_the_drift_is_drawn_in_the_order_of_time(make_latency):
    report = make_latency()
    shuffled = replace(report, subnets=report.subnets[::-1])
    assert drift_chart(report) == drift_chart(shuffled)
    assert drift_chart(report).splitlines()[-1].split() == ["0", "5,310"]


@pytest.mark.parametrize("width", [110, 80])
def test_nothing_is_wider_than_the_terminal(make_latency, width):
    lines = printed(make_latency(), width).splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.startswith("a line through MACs  ") for line in lines)  # in one line


def test_without_predictions_there_is_no_chart_of_them(make_latency):
    report = make_latency()
    bare = replace(report, subnets=tuple(replace(s, predicted_ms=None) for s in report.subnets))
    assert residuals_chart(bare) == ""
    assert "prediction’s error" not in printed(bare)
    assert printed(make_latency(subnets=(), held_out=(), kinds=(), learning=()))


def test_names_are_not_taken_for_markup(make_latency):
    assert "[red]" in printed(make_latency(run="[red]", notes=("[bold]x",)))
    assert "[bold]x" in printed(make_latency(run="[red]", notes=("[bold]x",)))
