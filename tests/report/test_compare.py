from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path

from bnas.report import Report
from bnas.report.compare import (
    Compared,
    comparison_headline,
    comparison_notes,
    comparison_page,
    differing_options,
    write_comparison,
)

Make = Callable[..., Report]
EVIL = "<script>alert(1)</script>"


def pair(make_report: Make) -> tuple[Compared, Compared]:
    report = make_report()
    faster = replace(report.subnets[1], latency_ms=0.125, metric_int8_percent=90.5)
    other = make_report(run="other", subnets=(report.subnets[0], faster, report.subnets[2]))
    return (
        Compared(name="one", report=report, options={"name": "one", "seed": 0, "search.algorithm": "linas"}),
        Compared(name="two", report=other, options={"name": "two", "seed": 0, "search.algorithm": "nsga2", "x": 1}, page="b c/report.html"),
    )  # fmt: skip


def test_the_fastest_is_in_the_headline(make_report: Make) -> None:
    told = comparison_headline(pair(make_report))
    assert told == "Of 2 runs, two has the fastest subnet B: 0.125 ms at 90.50 % top-1."
    none = [Compared(name="a", report=make_report(subnets=()))] * 2
    assert comparison_headline(none) == "2 runs, which chose no subnets."


def test_options_that_differ(make_report: Make) -> None:
    assert differing_options(pair(make_report)) == {"search.algorithm": ("linas", "nsga2"), "x": (None, 1)}


def test_what_cannot_be_compared_is_said(make_report: Make) -> None:
    one, two = pair(make_report)
    assert comparison_notes([one, two]) == ()
    other = make_report(dataset="CIFAR-10", hardware={"cpu": "another"}, protocol={"threads": 8})
    assert len(comparison_notes([one, replace(two, report=other)])) == 3


def test_the_page_holds_all_of_them_escaped(make_report: Make, tmp_path: Path) -> None:
    one, two = pair(make_report)
    evil = Compared(
        name=EVIL, report=make_report(run=EVIL, dataset=EVIL, hardware={"cpu": EVIL}), options={EVIL: EVIL}
    )
    html = comparison_page([one, two, evil])
    assert EVIL not in html
    assert EVIL in unescape(html)
    assert 'href="b%20c/report.html"' in html
    for told in ("one: A", "two: C", "two: original", "search.algorithm", "nsga2", "0.125"):
        assert told in html
    write_comparison([one, two], tmp_path / "deep" / "compare.html")
    assert (tmp_path / "deep" / "compare.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_equal_options_are_told_as_such(make_report: Make) -> None:
    one, _ = pair(make_report)
    assert "The runs have the same options." in comparison_page([one, one])
