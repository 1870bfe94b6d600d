"""A detector's report speaks of mAP wherever a classifier's speaks of top-1, and tells its details."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape

import pytest
from plotly.offline import get_plotlyjs

from bnas.report import Curve, Finetuned, Report, Training, headline, markdown_table
from bnas.report.card import ModelCard
from bnas.report.card_text import card_markdown
from bnas.report.compare import Compared, comparison_headline, comparison_notes, comparison_page
from bnas.report.figure import Figure
from bnas.report.foretold import offs
from bnas.report.front_axes import limit_lines
from bnas.report.page import page
from bnas.report.plots import figures
from bnas.report.png import png_figures
from bnas.report.training import training_page
from bnas.report.words import first_word, label_of, quantity_name
from bnas.search import Constraint, Round, objective

Make = Callable[..., Report]
DETAILS = {"map_50_percent": 61.25, "map_small_percent": 12.5}


def told(html: str) -> str:
    """The page without plotly's own text."""
    return unescape(html.replace(get_plotlyjs(), ""))


@pytest.fixture
def detector(make_report: Make) -> Report:
    """The report of a classifier, as if it had been a detector's."""
    report = make_report()
    gain = Finetuned(metric="map_percent", before=40.5, after=41.25, kept=True, images=2000)
    return replace(
        report,
        task="detection",
        metric="map_percent",
        metric_label="mAP",
        reference=replace(report.reference, details={**DETAILS, "map_50_percent": 65.0}),
        subnets=tuple(replace(own, details=DETAILS, finetuned=gain) for own in report.subnets),
        objectives=(objective("map_percent"), objective("latency_ms")),
        constraints=(Constraint(name="map_percent", bound=">=", limit=90.0),),
        failed={"out of memory": 1},
        rounds=(
            Round(
                evaluations=40,
                kendall_tau={"map_percent": 0.75, "latency_ms": 0.9},
                mean_error={"map_percent": 0.5},
            ),
        ),
        importance=tuple(replace(own, value=own.value.replace("top1", "map")) for own in report.importance),
        notes=(),
    )


def texts(figure: Figure) -> list[str]:
    """The titles of the axes and the names of the traces."""
    axes = [own["title"]["text"] for key, own in figure["layout"].items() if re.match("[xy]axis", key)]
    return [*axes, *(str(trace.get("name", "")) for trace in figure["data"])]


def test_no_page_of_a_detector_says_top_1(detector: Report) -> None:
    runs = [Compared(name="a", report=detector), Compared(name="b", report=detector)]
    training = Training(
        name="train",
        curves=(Curve(name="map_percent/largest", steps=(1, 2), values=(30.0, 31.0), better="higher"),),
    )
    for html in (page(detector), comparison_page(runs), training_page("coco", [training])):
        text = told(html)
        assert not re.search("top-?1", text, re.IGNORECASE)
        assert "mAP, validation images, %" in text
        assert "MAP" not in text
    assert not re.search("top-?1", markdown_table(detector), re.IGNORECASE)


def test_where_a_classifier_says_top_1_a_detector_says_map(detector: Report, make_report: Make) -> None:
    text, before = told(page(detector)), told(page(make_report()))
    for sentence in (
        " % {}. ",
        "its INT8 {} against the FP32",
        "<dt>{0} INT8</dt>",
        "{0} here is on the validation images",
        "{} here is on the 2,000 test images",
        "The search saw {} before INT8.",
        "{}, % (large); latency, ms (small)",
    ):
        assert sentence.replace("{0}", "mAP").format("mAP") in text
        assert sentence.replace("{0}", "Top-1").format("top-1") in before
    assert '"metric": "mAP"' in text or '"metric":"mAP"' in text
    assert headline(detector).endswith(" less mAP.")
    assert comparison_headline([Compared(name="a", report=detector)] * 2).endswith(" % mAP.")
    assert comparison_page([Compared(name="a", report=detector)] * 2).count("mAP on test images") == 1


def test_figures_name_it_and_keep_its_colour_and_limits(detector: Report, make_report: Make) -> None:
    drawn, before = figures(detector), figures(make_report())
    assert "mAP, validation images, %" in texts(drawn["front"])
    assert "front, measured (INT8 mAP)" in texts(drawn["front"])
    assert {"tau of mAP, %", "tau of latency, ms"} <= set(texts(drawn["progress"]))
    assert "mAP, %" in texts(drawn["importance"])
    colours = [
        {
            str(trace["name"]).replace("top-1", "mAP"): trace["marker"]["color"]
            for trace in own["importance"]["data"]
        }
        for own in (drawn, before)
    ]
    assert colours[0] == colours[1]
    (line,) = limit_lines(detector)
    assert (line["y0"], line["y1"]) == (90, 90)
    png = png_figures(detector)["front"].axes[0]
    assert png.get_ylabel() == "mAP, validation images, %"


def test_what_the_search_had_is_told_of_the_metric(detector: Report) -> None:
    found = {own.value: own for own in offs(detector)}
    assert list(found) == ["map_percent", "latency_ms"]
    pairs = [(p.metric_percent, p.metric_int8_percent) for p in detector.front]
    assert found["map_percent"].mean == pytest.approx(sum(abs(a - b) for a, b in pairs) / len(pairs))


def test_details_are_columns_of_the_table(detector: Report, make_report: Make) -> None:
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in markdown_table(detector).splitlines()
    ]
    assert rows[0][1:3] == ["mAP FP32 %", "mAP INT8 %"]
    place = rows[0].index("mAP 50 INT8 %")
    assert rows[0][place + 1] == "mAP small INT8 %"
    assert [row[place : place + 2] for row in rows[2:]] == [["65.00", "12.50"], *[["61.25", "12.50"]] * 3]
    assert not any("mAP" in cell for cell in markdown_table(make_report()).split("|"))


def test_runs_of_different_tasks_are_not_called_comparable(detector: Report, make_report: Make) -> None:
    runs = [Compared(name="a", report=detector), Compared(name="b", report=make_report())]
    assert comparison_notes(runs) == (
        "These runs are judged by different metrics, mAP and top-1: their accuracies cannot be compared.",
    )
    text = told(comparison_page(runs))
    assert "metric, validation images, %" in text
    heads = re.findall("<th[^>]*>(.*?)</th>", text, re.DOTALL)
    assert sum("metric" in head for head in heads) == 2  # one column each of FP32 and INT8, not one a metric
    assert sum("mAP 50" in head for head in heads) == 1


def test_a_card_of_a_detector_has_details_and_no_interval(card: Callable[[], ModelCard]) -> None:
    whole = card()

    def of_detector(networks):
        return tuple(
            replace(own, metric_low_percent=None, metric_high_percent=None, details=DETAILS)
            for own in networks
        )

    own = replace(
        whole,
        task="detection",
        metric="map_percent",
        metric_label="mAP",
        networks=of_detector(whole.networks),
        original=of_detector(whole.original),
    )
    text = card_markdown(own).replace("\\", "")  # which keeps Markdown from reading lists
    assert not re.search("top.?1", text, re.IGNORECASE)
    assert "INT8: mAP 82.00 % on 2,000 test images" in text
    assert "| mAP, % | 82.00 | 82.35 | 83.00 | 83.50 |" in text
    assert "| its 95 % interval | – | – | – | – |" in text
    assert "| mAP 50, % | 61.25 | 61.25 | 61.25 | 61.25 |" in text
    assert "known to about" not in text
    assert "How far mAP on 2,000 test images" in text
    assert "known to about" in card_markdown(whole)


@pytest.mark.parametrize(
    ("name", "label", "first", "quantity"),
    [
        ("top1_percent", "top-1", "Top-1", "top-1, %"),
        ("map_percent", "mAP", "mAP", "mAP, %"),
        ("map_75_percent", "mAP 75", "mAP 75", "mAP 75, %"),
        ("perplexity", "perplexity", "Perplexity", "perplexity"),
        ("throughput_per_s", "throughput", "Throughput", "throughput, 1/s"),
        ("latency_ms@gpu", "latency", "Latency", "latency, ms on gpu"),
        ("macs", "MACs", "MACs", "MACs"),
        ("energy_mj", "energy", "Energy", "energy, mJ"),
    ],
)
def test_names_are_words(name: str, label: str, first: str, quantity: str) -> None:
    assert (label_of(name), first_word(label_of(name)), quantity_name(name)) == (label, first, quantity)
