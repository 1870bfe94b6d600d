from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bnas.report import Report
from bnas.report.compare_plots import COLORS, comparison_figures

Make = Callable[..., Report]


def test_every_run_has_a_colour_and_its_own_front(make_report: Make) -> None:
    report = make_report()
    other = make_report(front=report.front[:4])
    data = comparison_figures([("a", report), ("b", other)])["fronts"]["data"]
    a, b = data[0], data[3]
    assert a["x"] == [p.latency_ms for p in report.front]  # ascending in this report
    assert b["y"] == [p.metric_int8_percent for p in report.front[:4]]
    assert a["text"].count("<b>B</b>") == 1
    assert (a["line"]["color"], b["line"]["color"]) == COLORS[:2]
    assert data[2]["x"] == [1.62]


def test_what_was_not_measured_is_hollow(make_report: Make) -> None:
    report = make_report()
    front = tuple(replace(p, latency_ms=None) if i % 2 else p for i, p in enumerate(report.front))
    measured, hollow, _ = comparison_figures([("a", make_report(front=front))])["fronts"]["data"]
    assert len(measured["x"]) == 5
    assert hollow["x"] == [p.predicted_latency_ms for p in report.front[1::2]]
    assert not hollow["showlegend"]


def test_more_runs_than_colours_differ_by_their_symbols(make_report: Make) -> None:
    data = comparison_figures([(f"run {i}", make_report()) for i in range(8)])["fronts"]["data"][::3]
    looks = {(own["line"]["color"], own["marker"]["symbol"]) for own in data}
    assert len(looks) == 8


def test_progress_only_where_there_is_some(make_report: Make) -> None:
    assert len(comparison_figures([("a", make_report()), ("b", make_report())])["progress"]["data"]) == 2
    assert set(comparison_figures([("a", make_report(hypervolume=()))])) == {"fronts"}
