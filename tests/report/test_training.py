from __future__ import annotations

import importlib
import json
import re
from html import unescape

import pytest
from plotly.offline import get_plotlyjs

from bnas.errors import MissingPackageError
from bnas.report import Curve, Training, write_training
from bnas.report.training import training_page

EVIL = "</script><img src=x onerror=alert(1)>"


def curve(name, values, better=None, first=9):
    return Curve(
        name=name, steps=tuple(range(first, first + len(values))), values=tuple(values), better=better
    )


TRAIN = Training(
    name="train",
    curves=(
        curve("loss", [2.5, 0.5, 0.75], "lower"),
        curve("lr", [0.1, 0.2, 0.3]),
        curve("top1_percent/largest", [90.0, 93.5], "higher"),
        curve("top1_percent/smallest", [89.0, 88.0], "higher"),
        curve("top1_percent/random-1", [80.0, 81.0], "higher"),
    ),
    macs=(1e6, 3e6),
    ends=(("depth", 10), ("width", 11)),
)
PRETRAIN = Training(
    name="pretrain", curves=(curve("loss", [1.0, 2.0]), curve("top1_percent/network", [50.0]))
)


def own_part(html):
    return html.replace(get_plotlyjs(), "")


def figures(html):
    return json.loads(re.search(r'id="figures">(.*?)</script>', html, re.S)[1])


def test_the_best_of_a_curve_is_its_first_best_point():
    assert curve("loss", [3, 1, 2, 1], "lower").best == (10, 1)
    assert curve("top1", [3, 5, 5], "higher").best == (10, 5)
    assert curve("lr", [3, 5]).best is None
    assert curve("loss", [], "lower").best is None


def test_every_figure_has_its_place_and_every_place_its_figure():
    html = own_part(training_page("toy", (PRETRAIN, TRAIN)))
    drawn = figures(html)
    assert re.findall(r'<div class="plot \w+"><div id="([^"]+)">', html) == list(drawn)
    # loss; loss, lr, top-1, MACs: pretrain has only one point of top-1
    assert [f["layout"]["yaxis"]["title"]["text"] for f in drawn.values()] == [
        "loss",
        "loss",
        "learning rate",
        "top-1, validation images, %",
        "subnets drawn",
    ]


def test_the_headline_tells_where_the_last_training_stands():
    assert "<h1>train, step 11: loss 0.75, largest 93.5, smallest 88.</h1>" in own_part(
        training_page("toy", (PRETRAIN, TRAIN))
    )


def test_the_table_has_first_last_and_best_of_each_curve():
    html = own_part(training_page("toy", (TRAIN,)))
    rows = [
        re.findall(r">([^<>]+)</t[hd]>", row) for row in re.findall(r'<tr><th scope="row">.*?</tr>', html)
    ]
    assert rows[0] == ["loss", "3", "2.5", "0.75", "0.5", "10"]
    assert rows[1] == ["lr", "3", "0.1", "0.3", "–", "–"]
    assert rows[3] == ["top1_percent/smallest", "2", "89", "88", "89", "9"]
    assert "Stages: depth to step 10, width to step 11." in html


def test_names_are_escaped_everywhere():
    evil = Training(
        name=EVIL,
        curves=(curve(EVIL, [1, 2]), curve(f"{EVIL}/{EVIL}", [1, 2]), curve("loss", [1, 2])),
        ends=((EVIL, 10),),
    )
    html = own_part(training_page(EVIL, (evil,)))
    assert "<img" not in html
    assert html.count("</script>") == 3
    assert EVIL in unescape(html)
    # plotly knows some tags in texts
    assert "<img" not in json.dumps(figures(html))


def test_the_page_asks_for_nothing():
    html = own_part(training_page("toy", (TRAIN,)))
    assert "http" not in html.replace('http-equiv="Content-Security-Policy"', "")
    assert "default-src 'none'" in html


def test_it_is_written_into_the_folder(tmp_path):
    path = write_training("toy", (TRAIN,), tmp_path)
    assert path == tmp_path / "training.html"
    assert path.read_text() == training_page("toy", (TRAIN,))


def test_without_plotly_it_says_what_to_install(tmp_path, monkeypatch):
    def not_there(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="plotly")

    monkeypatch.setattr(importlib, "import_module", not_there)
    with pytest.raises(MissingPackageError, match=r"plotly is not installed; .* 'bnas\[report\]'"):
        write_training("toy", (TRAIN,), tmp_path)
    assert list(tmp_path.iterdir()) == []
