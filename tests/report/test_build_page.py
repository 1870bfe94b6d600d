from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from residual_graph import DEPTH, SPACE, WIDTHS, residual

from bnas.report.build_page import build_page
from bnas.report.outline import Refusal
from bnas.space import SearchSpace

EVIL = "<script>alert(1)</script>&\"'"


class Elements(HTMLParser):
    """Tags with attributes, and text, as a browser's parser sees them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def seen() -> Elements:
    return Elements(build_page(residual(), SPACE, name="net"))


def test_a_row_for_each_layer_with_its_reason_on_hover(seen: Elements) -> None:
    rows = seen.all("li")
    assert [row["class"] for row in rows] == ["on"] * 5 + ["off"]
    assert rows[0]["title"] == "stem\nConv2d\nwidth 8 16\nkernel 3 5"
    assert rows[-1]["title"] == (
        "head.fc\nLinear\nfrozen: is an output of the model\nfrozen: is read <twice>"
    )


def test_rows_say_which_groups_they_make_and_read(seen: Elements) -> None:
    rows = [(row["data-makes"], row["data-reads"]) for row in seen.all("li")]
    assert rows == [("0", ""), ("1", "0"), ("0", "1"), ("2", "0"), ("0", "2"), ("3", "0")]


def test_brackets_and_curves() -> None:
    html = build_page(residual(), SPACE)
    # blocks: rows 1-2 and 3-4 of 24 pixels, 4 less at both ends; the stage: rows 1-4
    assert re.findall(r'<path class="(\S+(?: skip)?)" d="([^"]*)"', html) == [
        ("skip", "M34 28H24V68H34"),
        ("skip", "M34 76H24V116H34"),
        ("stage skip", "M18 28H8V116H18"),
    ]
    curves = re.findall(r'data-group="(\d)" d="M0 (\d+)C[\d ,]* 0 (\d+)">', html)
    middles = [(group, (int(a) - 12) // 24, (int(b) - 12) // 24) for group, a, b in curves]
    assert middles == [("0", 0, 1), ("1", 1, 2), ("0", 2, 3), ("2", 3, 4), ("0", 4, 5)]


def test_totals(seen: Elements) -> None:
    # largest: 16 positions · 25 · (3·16 + 4·16·8) + 16·10 + 16·3 = 224 208 MACs, and 25 · 560 + 160 = 14 160
    assert "224 k" in seen.text
    assert "14.2 k" in seen.text
    # smallest: 8 channels, 3×3 in the stem, no block: 16 · 9 · 24 + 80 + 24 = 3560, and 9 · 24 + 80 = 296
    assert "3.56 k" in seen.text
    assert "296" in seen.text
    assert "1 of depth, 1 of kernel, 3 of width: 5 choices" in seen.text
    assert "3 of 4 groups of channels have a choice of width, 2 of 2 blocks may be skipped" in seen.text


def test_what_did_not_run_is_told() -> None:
    refused = [Refusal(choice=WIDTHS[1], reason="shape is invalid"), Refusal(choice=DEPTH, reason="no block")]
    page = Elements(build_page(residual(), SearchSpace(choices=WIDTHS[:1]), refused))
    assert "stage.0.a.width is left out, the model does not run with it: shape is invalid" in page.text
    assert "stage.depth is left out" in page.text
    assert page.all("li")[1]["title"] == (
        "stage.0.a\nConv2d\nfrozen: another width does not run: shape is invalid"
    )
    assert "frozen: another width does not run: shape is invalid" in page.text


def test_nothing_in_a_name_becomes_part_of_the_page(seen: Elements) -> None:
    space = SearchSpace(choices=WIDTHS[1:])
    refused = [Refusal(choice=DEPTH, reason=EVIL)]
    evil = Elements(build_page(residual(EVIL), space, refused, EVIL))
    assert len(evil.all("script")) == len(seen.all("script")) == 1
    assert any(row["title"].startswith(EVIL) for row in evil.all("li"))
    assert f"{EVIL} · what is elastic" in evil.text


def test_it_asks_for_nothing(seen: Elements) -> None:
    assert not [attrs for _, attrs in seen.tags if {"src", "href"} & set(attrs)]
    policy = next(a["content"] for a in seen.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
