from __future__ import annotations

import json

from bnas.report.html import facts_list, many, notes_box, script_json


def test_figures_inside_a_script_cannot_end_it():
    text = script_json({"name": "</script><!--", "amp": "&"})
    assert "<" not in text
    assert json.loads(text) == {"name": "</script><!--", "amp": "&"}


def test_facts_are_named_by_where_they_stand_and_escaped():
    html = facts_list("<b>", {"cpu": "<i>", "held_out": {"kendall_tau": 0.95, "ok": True}, "none": ()})
    assert "<h3>&lt;b&gt;</h3>" in html
    assert "<dt>cpu</dt><dd>&lt;i&gt;</dd>" in html
    assert "<dt>held out, kendall tau</dt><dd>0.95</dd>" in html
    assert "<dt>held out, ok</dt><dd>yes</dd>" in html
    assert "none" not in html


def test_notes_stand_in_a_box_where_there_are_any():
    assert notes_box(("<one>", "two")) == '<div class="notes"><p>&lt;one&gt;</p><p>two</p></div>'
    assert notes_box(()) == ""


def test_a_very_long_count_is_told_as_a_power_of_ten():
    assert (many(3_188_646), many(3 * 10**21)) == ("3,188,646", "about 10^21")
