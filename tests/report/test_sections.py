from __future__ import annotations

import re

from bnas.report.sections import plot_section, rows_table

EVIL = "<img src=x>"


def test_a_table_has_its_rows_in_order_and_marks_those_that_stand_back():
    html = rows_table(("kind", "error"), [("ours", "0.5"), ("line", "2.5")], marked=(1,))
    rows = re.findall(r"<tr([^>]*)><th scope=\"row\">(.*?)</th><td>(.*?)</td></tr>", html)
    assert rows == [("", "ours", "0.5"), (' class="reference"', "line", "2.5")]
    assert re.findall(r'<th scope="col">(.*?)</th>', html) == ["kind", "error"]


def test_every_text_is_escaped():
    html = rows_table((EVIL,), [(EVIL, EVIL)]) + plot_section("place", EVIL, EVIL, "small")
    assert "<img" not in html
    assert html.count("&lt;img src=x&gt;") == 5


def test_a_plot_has_a_place_of_its_size():
    html = plot_section("here", "Title", "What it shows.", "tall", level=2)
    assert "<h2>Title</h2>" in html
    assert '<div class="plot tall"><div id="here"></div></div>' in html
