from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest
from plotly.offline import get_plotlyjs

from bnas.report import Finetuned, Importance
from bnas.report.page import page

EVIL = "<script>alert(1)</script>"


class Elements(HTMLParser):
    """The page as a browser's parser sees it: tags with attributes, and the text outside scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.text += data


def own_part(html: str) -> str:
    """The page without plotly's own code."""
    return html.replace(get_plotlyjs(), "")


@pytest.fixture
def evil(make_report):
    report = make_report()
    bad = replace(
        report.subnets[0], name=EVIL, config={EVIL: 3}, command=f"python -m bnas extract run={EVIL} name=A"
    )
    front = (replace(report.front[-1], names=(EVIL,)), *report.front)
    return make_report(
        run=EVIL,
        dataset=EVIL,
        reference=replace(report.reference, config={EVIL: 4}, command=EVIL),
        subnets=(bad,),
        front=front,
        hardware={"cpu": EVIL, EVIL: {EVIL: [EVIL]}},
        protocol={EVIL: EVIL},
        space={EVIL: EVIL},
        latency_model={EVIL: EVIL},
        notes=(EVIL,),
    )


def test_every_name_is_escaped(evil):
    html = own_part(page(evil))
    assert EVIL not in html
    assert "<script>alert" not in html
    elements = Elements(html)
    assert [tag for tag, _ in elements.tags].count("script") == 4  # two of data, plotly, the page's own
    assert elements.text.count(EVIL) > 15


def test_it_asks_nothing_of_the_network(make_report):
    html = own_part(page(make_report())).replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    elements = Elements(html)
    for tag, attributes in elements.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert not attributes.keys() & {"src", "srcset", "action"}
        assert re.fullmatch(r"subnets/[^:]*", attributes.get("href") or "subnets/")  # files beside the page
    assert "http" not in html.replace("http-equiv", "")
    assert "url(" not in html
    assert "@import" not in html
    policy = next(a["content"] for t, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")


def test_the_numbers_of_the_report_are_on_the_page(make_report):
    report = make_report()
    text = re.sub(r"\s+", " ", Elements(own_part(page(report))).text)
    assert "Subnet B is 1.92× faster than the INT8 original and 5.78× faster than the FP32 original" in text
    for told in ("91.26 %", "−0.84", "0.842 ms", "Xeon Platinum 8380", "kendall tau", "0.951", "3,188,646"):
        assert told in text
    for subnet in (report.reference, *report.subnets):
        assert subnet.command in text
    assert "9 measured members of the front, 3.0 % off on average" in text
    assert report.notes[0] in text


def test_b_is_not_called_what_it_is_not(make_report):
    report = make_report()
    assert "fastest under 1 point of loss" in own_part(page(report))
    assert "fastest under 2 points of loss" in own_part(page(make_report(loss_points=2.0)))
    lossy = make_report(reference_val_fp32_percent=95.0)
    assert "fastest under 1 point of loss" not in own_part(page(lossy))
    assert "smallest loss there is" in own_part(page(lossy))


def test_facts_are_told_once_and_long_lists_of_numbers_not_at_all(make_report):
    hardware = {"cpu": "Xeon Platinum 8380", "memory_gib": 64}
    html = own_part(
        page(make_report(hardware=hardware, latency_model={"hardware": hardware, "scales": [0.125] * 9}))
    )
    assert html.count("memory gib") == 1
    assert "9 numbers, see report.json" in html
    assert "0.125" not in html


def test_the_predictor_has_a_section_with_a_link_to_its_own_page(make_report, make_latency):
    html = own_part(page(make_report(), make_latency(hw="my cpu")))
    assert 'href="latency/my%20cpu/latency.html"' in html
    assert 'id="latency-predicted"' in html
    assert "20 subnets that the predictor had not seen: off by 0.50 % on average" in html
    assert "Latency predictor</h2>" not in own_part(page(make_report()))


def test_a_report_with_nothing_to_plot_is_still_a_page(make_report):
    bare = make_report(
        subnets=(), front=(), evaluations=(), hypervolume=(), notes=(), hardware={}, latency_model={}, choices=(),
        importance=(), rounds=(), constraints=(), failed={}, search={}, objectives=(),
    )  # fmt: skip
    html = own_part(page(bare))
    assert 'class="notes"' not in html
    for place in ("prediction", "progress", "importance", "parallel", "evaluations"):
        assert f'id="{place}"' not in html
    assert "This run chose no subnets." in unescape(html)


def test_both_splits_are_stated(make_report):
    text = Elements(own_part(page(make_report(search_images=1234, report_images=5678)))).text
    assert "The search decided by 1,234 validation images; top-1 here is on the 5,678 test images" in text
    assert "images that it decided by" in text


def test_the_search_is_told_with_what_failed(make_report):
    text = re.sub(r"\s+", " ", Elements(own_part(page(make_report()))).text)
    for told in ("linas", "latency_ms <= 1.5", "top-1, % (large); latency, ms (small)", "subnets failed"):
        assert told in text
    assert "3 subnets could not be evaluated: it gave top1_percent = nan (2); out of memory (1)." in text


def test_before_and_after_only_where_something_was_fine_tuned(make_report):
    report = make_report()
    assert "ine-tun" not in Elements(own_part(page(report))).text
    gain = Finetuned(metric="top1_percent", before=90.5, after=91.25, kept=True, images=2000)
    tuned = (replace(report.subnets[0], finetuned=gain), *report.subnets[1:])
    text = Elements(own_part(page(make_report(subnets=tuned)))).text
    assert "90.5091.25" in text  # in two cells
    assert "+0.75" in text
    left = (replace(report.subnets[0], finetuned=replace(gain, after=90.0, kept=False)), *report.subnets[1:])
    assert "90.5090.00 left" in Elements(own_part(page(make_report(subnets=left)))).text


def test_too_few_subnets_for_an_importance_are_told(make_report):
    few = (Importance(value="top1_percent", samples=7), Importance(value="latency_ms", samples=7))
    html = own_part(page(make_report(importance=few)))
    assert 'id="importance"' not in html
    assert "Not enough subnets to tell: 7 were evaluated, 20 are needed." in html
