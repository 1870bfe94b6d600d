from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bnas.report import Importance, Report
from bnas.report.explore_section import (
    explored_sections,
    failed_sentence,
    importance_caption,
    off_table,
    progress_caption,
    search_facts,
)
from bnas.space import Choice

Make = Callable[..., Report]


def test_which_choices_are_axes_is_said(make_report: Make) -> None:
    report = make_report()
    assert "All choices, latency and accuracy." in explored_sections(report)
    more = tuple(Choice(name=f"x{i}.width", dim="width", values=(1, 2)) for i in range(8))
    many = (*report.choices, *more)
    assert "The 12 of 20 choices that matter most" in explored_sections(make_report(choices=many))
    assert "12 of 20 choices, latency" in explored_sections(make_report(choices=many, importance=()))


def test_what_there_is_nothing_of_is_not_there(make_report: Make) -> None:
    assert explored_sections(make_report(evaluations=())) == ""
    only = explored_sections(make_report(choices=()))
    assert 'id="evaluations"' in only
    assert 'id="parallel"' not in only
    assert off_table(make_report(front=())) == ""


def test_failures_are_counted_and_escaped(make_report: Make) -> None:
    one = make_report(failed={"<b>out</b> of memory": 1})
    assert failed_sentence(one) == "1 subnet could not be evaluated: <b>out</b> of memory."
    assert "<b>out" not in explored_sections(one)


def test_the_captions_say_how_far_they_can_be_trusted(make_report: Make) -> None:
    report = make_report()
    r2 = {own.value: own.r2 for own in report.importance}
    assert f"{r2['latency_ms']:.2f} for latency, ms; below 0.3, bars are" in importance_caption(report)
    good = tuple(replace(own, r2=0.9) for own in report.importance)
    assert importance_caption(make_report(importance=good)).endswith(
        "0.90 for top-1, %, 0.90 for latency, ms."
    )
    assert "at last 0.82 for top-1, %, 0.97 for latency, ms" in progress_caption(report)
    assert "Dotted" not in progress_caption(make_report(rounds=()))
    alike = (Importance(value="top1_percent", samples=99),)
    assert importance_caption(make_report(importance=alike)) == "All evaluated subnets are alike."


def test_the_facts_of_a_search(make_report: Make) -> None:
    facts = search_facts(make_report())
    assert list(facts)[:3] == ["algorithm", "objectives", "constraints"]
    assert facts["images that it decided by"] == 2000
    assert facts["seed"] == 0
    none = search_facts(
        make_report(
            search={}, objectives=(), constraints=(), failed={}, search_images=None, report_images=None
        )
    )
    assert none == {"subnets evaluated": 160}
