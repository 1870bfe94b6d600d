from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from bnas.report import Curve, Training, print_training
from bnas.report.chart import chart, dots

# of braille's eight dots, the place (column, row) that each bit stands for, as Unicode numbers them
PLACES = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))


def seen(lines):
    """The dots that are set, as a matrix [4 rows a line, 2 columns a character]."""
    picture = np.zeros((4 * len(lines), 2 * len(lines[0])), dtype=bool)
    for y, line in enumerate(lines):
        for x, character in enumerate(line):
            for bit, (column, row) in enumerate(PLACES):
                picture[4 * y + row, 2 * x + column] = bool((ord(character) - 0x2800) >> bit & 1)
    return picture


def test_a_rising_line_is_a_diagonal():
    picture = seen(dots([0, 1], [0.0, 1.0], width=4, height=2))
    np.testing.assert_array_equal(picture, np.eye(8, dtype=bool)[::-1])


def test_steps_that_are_far_apart_are_where_they_belong():
    picture = seen(dots([0, 3, 7], [0.0, 7.0, 0.0], width=4, height=2))
    assert picture[0].nonzero()[0].tolist() == [3]
    assert picture[7].nonzero()[0].tolist() == [0, 7]


def test_a_jump_is_a_line_without_a_gap():
    picture = seen(dots([0, 1, 2, 3], [0, 0, 1, 1], width=2, height=3))
    assert picture[:, 2].sum() == 11
    assert picture.any(axis=0).all()


def test_many_points_of_a_column_are_drawn_as_their_mean():
    rng = np.random.default_rng(0)
    y = np.concatenate([[0.0], 5 + rng.normal(size=10_000) * 0.3, [10.0]])
    picture = seen(dots(range(len(y)), y.tolist(), width=10, height=4))
    assert {int(row) for row in picture[:, 3:-3].nonzero()[0]} <= {7, 8}


@pytest.mark.parametrize(("x", "y"), [([4], [2.0]), ([1, 2, 3], [5.0, 5.0, 5.0])])
def test_a_constant_and_a_single_point_are_in_the_middle(x, y):
    picture = seen(dots(x, y, width=3, height=2))
    assert {int(row) for row in picture.nonzero()[0]} == {4}
    assert picture.any(axis=0).all()


def test_a_chart_is_between_its_name_and_its_steps():
    lines = chart(
        Curve(name="loss", steps=(9, 1999), values=(2.5, 0.125), better="lower"), width=12, height=3
    )
    name, *drawn, steps = lines.split("\n")
    assert name.strip() == "loss"
    assert [line.split("┤")[0].strip() for line in drawn] == ["2.5", "", "0.125"]
    assert len({line.index("┤") for line in drawn}) == 1
    assert steps.split() == ["9", "1,999"]
    assert {len(line) for line in (*drawn, steps)} == {len(drawn[0])}


def curve(name, *values, better=None):
    return Curve(name=name, steps=tuple(range(9, 9 + len(values))), values=values, better=better)


TRAIN = Training(
    name="train",
    curves=(
        curve("loss", 2.5, 0.5, 0.75, better="lower"),
        curve("images_per_s", 1482.4, 900.0),
        curve("top1_percent/[red]", 90.0, better="higher"),
    ),
    macs=(3e6, 1e6),
    ends=(("depth", 10),),
)


def printed(width):
    console = Console(file=io.StringIO(), width=width)
    print_training(TRAIN, console)
    return console.file.getvalue()


def test_the_table_has_every_curve_and_charts_those_with_two_points():
    text = printed(100)
    lines = [line.split() for line in text.splitlines()]
    first = "train · to step 11 · depth to 10 · 1.00 M to 3.00 M MACs in the subnets drawn\n"
    assert text.startswith(first)
    assert ["loss", "3", "2.5", "0.75", "0.5", "10"] in lines
    assert ["images_per_s", "2", "1,482", "900", "–", "–"] in lines
    assert ["top1_percent/[red]", "1", "90", "90", "90", "9"] in lines
    assert ["loss"] in lines
    assert ["images_per_s"] not in lines


def test_a_narrow_terminal_has_no_line_that_is_too_long():
    assert max(map(len, printed(60).splitlines())) <= 60
