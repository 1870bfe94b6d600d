"""The card as Markdown, read again by a Markdown parser that bnas does not use for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from bnas.report.card import Command, ModelCard
from bnas.report.card_text import block, card_markdown, escaped

Make = Callable[[], ModelCard]
NASTY = "a*b*_c_ `d` [x](http://y) <script>alert(1)</script> | \\ ~e~ $f$ &amp; ![i](j)"


def parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def visible(text: str) -> list[str]:
    """The plain text of every paragraph, heading, list item and cell; markup within it is an error."""
    found = []
    for token in parsed(text):
        assert token.type != "html_block"
        if token.type == "inline":
            kinds = {child.type for child in token.children or ()}
            assert kinds <= {"text", "text_special", "softbreak", "code_inline"}, kinds
            found.append("".join(child.content for child in token.children or ()))
    return found


def blocks(text: str) -> list[str]:
    return [token.content for token in parsed(text) if token.type == "fence"]


def rows(text: str) -> dict[str, list[str]]:
    """The cells of every table, by the first one of their row."""
    found: dict[str, list[str]] = {}
    inside: list[str] = []
    for token, after in pairwise(parsed(text)):
        if token.type in ("th_open", "td_open"):
            assert after.type == "inline"
            inside.append("".join(child.content for child in after.children or ()))
        elif token.type == "tr_close":
            found[inside[0]], inside = inside[1:], []
    return found


def test_precisions_of_encodings_are_named_truly(card: Make) -> None:
    made = card()
    others = tuple(
        replace(made.others[0], path=own, precision=own) for own in ("int4", "int4/int16", "int8/f16")
    )
    told = rows(card_markdown(replace(made, others=others)))
    assert [told[own.path][1] for own in others] == ["INT4", "INT4/INT16", "INT8/FP16"]


def test_every_number_stands_in_its_column(card: Make) -> None:
    told = rows(card_markdown(card()))
    assert told[""] == ["B INT8", "B FP32", "original INT8", "original FP32"]
    assert told["top-1, %"] == ["82.00", "82.35", "83.00", "83.50"]
    assert told["its 95 % interval"][0] == "80.26 to 83.62"
    assert told["latency, ms (median)"] == ["0.1000", "0.3000", "0.4000", "1.200"]
    assert told["10th to 90th percentile"][0] == "0.09000 to 0.1250"
    assert told["latency ÷ that of the INT8 original"][0] == "0.2500 ± 0.70 %"
    assert told["file size"][0] == "123 kB"
    assert told["agreement with the torch module, %"][0] == "97.20"
    assert told["subnets/B/fp32.onnx"] == ["onnx", "FP32", "90.0 kB", "100.00", "5.6e-07"]
    assert told["python"] == ["3.12.1"]


def test_it_says_what_of_what_and_where(card: Make) -> None:
    text = card_markdown(card())
    told = " ".join(visible(text))
    for sentence in (
        "top-1 82.00 % (80.26 to 83.62 %, 95 % interval) on 2,000 test images of embedded, 0.100 ms per image: "
        "4.00× faster than the INT8 original, 12.0× faster than the FP32 one.",
        "AMD EPYC, 1 thread on CPU 1, batch 1, openvino 2026.4.1, Linux 6.18, 24 GiB; instruction sets avx2 avx512_vnni.",
        "Classes: coat, bag, shirt. Images are values from 0 to 1, less 0.2860, divided by 0.3530.",
        "INT8 ranges are of 100 images of the training split.",
        "MACs 9,093,360 instead of 17,973,568",
        "The data set is small: 10,000 training images of 3 classes at 32×32 pixels.",
        "A and B are the same subnet.",
    ):
        assert sentence in told
    assert rows(text)["data"] == ["not known", "the images are yours"]
    assert card().diff + "\n" in blocks(text)
    assert f"{'cd' * 32}  subnets/B/int8.xml\n" in blocks(text)


def test_the_original_is_not_compared_with_itself(card: Make) -> None:
    own = card()
    text = card_markdown(replace(own, name="reference", config=None, diff="", original=()))
    assert rows(text)[""] == ["reference INT8", "reference FP32"]
    assert "faster than" not in text
    assert "This is that network." in text


def test_names_that_a_person_gave_are_text(card: Make) -> None:
    own = card()
    given = replace(
        own,
        run=NASTY,
        model={"name": NASTY, "options": {"of": NASTY}},
        data=replace(own.data, name=NASTY, classes=(NASTY, "# x", "- y", "1. z")),
        hardware={**own.hardware, "cpu": NASTY},
        notes=(NASTY, "# heading", "1. first", "- item"),
    )
    text = card_markdown(given)
    told = visible(text)
    assert f"{NASTY}: subnet B" in told
    assert {NASTY, "# heading", "1. first", "- item"} <= set(told)
    assert any(f"Classes: {NASTY}, # x, - y, 1. z." in one for one in told)
    assert all(len(cells) == 4 for key, cells in rows(text).items() if key == "top-1, %")


@pytest.mark.parametrize("text", ["``` \n# no heading", "a ```` b", "plain", "~~~"])
def test_a_block_holds_its_text_word_for_word(text: str) -> None:
    assert blocks(f"before\n\n{block(text)}\n\nafter") == [f"{text}\n"]


def test_commands_are_blocks_of_their_own(card: Make) -> None:
    own = replace(card(), rebuilt_by=(Command(does="x", command="python -c 'print(\"`a`\")'"),))
    assert "python -c 'print(\"`a`\")'\n" in blocks(card_markdown(own))


def test_what_is_no_letter_is_left_out() -> None:
    assert escaped("a\x1b[31m\nb") == "a\\[31m b"
