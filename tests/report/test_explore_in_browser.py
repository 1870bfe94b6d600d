"""report.html as a person uses it, in a real Chromium: pointing, pinning, selecting, limiting, downloading."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import log10
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import browser
import pytest
from devtools import Page, opened

from bnas.report import Report, write_report

pytestmark = browser.needs_chromium
Make = Callable[..., Report]

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def run(make_report: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the report and the files that it links to."""
    folder = tmp_path_factory.mktemp("run")
    report = make_report()
    write_report(report, folder)
    for subnet in (*report.subnets, report.reference):
        for file in subnet.files:
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.path.encode())
    return folder


@pytest.fixture(scope="module")
def tab(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened(run / "report.html", tmp_path_factory.mktemp("browser")) as page:
        page.until("document.querySelector('#parallel .lines path')")
        yield page


@pytest.fixture
def page(tab: Page) -> Page:
    """The tab as it was opened."""
    tab.move(2, 2)
    tab.press("Escape")
    tab.until("document.querySelector('#subnet b').textContent === 'Subnet B'")
    return tab


def spot(page: Page, trace: str, number: int = 0) -> tuple[float, float]:
    """Where a point of a trace is in the window."""
    page.middle("#front")
    x, y = page.value(
        f"(() => {{ const g = document.getElementById('front'), {{ xaxis, yaxis }} = g._fullLayout;"
        f"const t = g.data.find((own) => own.name === {json.dumps(trace)}), b = g.getBoundingClientRect();"
        f"return [b.x + xaxis._offset + xaxis.d2p(t.x[{number}]), b.y + yaxis._offset + yaxis.d2p(t.y[{number}])]; }})()"
    )
    return float(x), float(y)


def shown(page: Page) -> dict[str, Any]:
    """What the panel beside the plot tells."""
    return dict(
        page.value(
            "({ title: document.querySelector('#subnet b').textContent,"
            "pairs: Object.fromEntries([...document.querySelectorAll('#subnet dl div')].map("
            "(own) => [own.children[0].textContent, own.children[1].textContent])),"
            "medians: [...document.querySelectorAll('#subnet .spread strong')].map((own) => own.textContent),"
            "ranges: [...document.querySelectorAll('#subnet .spread small')].map((own) => own.textContent),"
            "columns: [...document.querySelectorAll('#subnet .columns > i')].map("
            "(own) => [own.title, Math.round(own.firstChild.getBoundingClientRect().height),"
            "Math.round(own.getBoundingClientRect().height)]),"
            "depths: [...document.querySelectorAll('#subnet .pips small')].map((own) => own.textContent) })"
        )
    )


def counts(page: Page) -> tuple[str, int, int]:
    """How many subnets the page says that it shows, how many lines and rows it has."""
    if page.value(
        "!document.getElementById('more').hidden && document.getElementById('more').textContent.startsWith('Show all')"
    ):
        page.value("document.getElementById('more').click()")
    told = page.value("[...new Set([...document.querySelectorAll('.count')].map((own) => own.textContent))]")
    assert len(told) == 1
    lines = page.value("document.querySelectorAll('#parallel .lines path').length")
    return told[0], lines, page.value("document.querySelectorAll('#evaluations tbody tr').length")


def test_pointing_at_a_subnet_shows_it(page: Page, make_report: Make) -> None:
    report = make_report()
    place, own = next((i, p) for i, p in enumerate(report.front) if "C" in p.names)
    page.move(*spot(page, "subnet C"))
    page.until("document.querySelector('#subnet b').textContent === 'Subnet C'")
    told = shown(page)
    evaluated = report.evaluations[place]
    assert told["pairs"]["Top-1, search"] == f"{own.metric_percent:.2f} %"
    assert told["pairs"]["Top-1, INT8"] == f"{own.metric_int8_percent:.2f} %"
    assert told["medians"][:2] == [f"{ms:.3f} ms" for ms in (evaluated.latency_ms, own.latency_ms)]
    assert told["pairs"]["MACs"].endswith(f"{round(100 * evaluated.macs / report.reference.macs)} %")
    ranges = (evaluated.latency_low_ms, evaluated.latency_high_ms), (own.latency_p10_ms, own.latency_p90_ms)
    assert told["ranges"][:2] == [f"{low:.3f}–{high:.3f}" for low, high in ranges]
    # Columns are as high as the share of the original that is kept; empty in blocks that are left out.
    values = {c.name: c.values[i] for c, i in zip(report.choices, evaluated.indices, strict=True)}
    widths = [choice for choice in report.choices if choice.dim == "width"]
    assert len(told["columns"]) == len(widths)
    for choice, (title, height, full) in zip(widths, told["columns"], strict=True):
        stage, block = choice.name.split(".")[:2]
        is_there = int(block) <= values[f"{stage}.depth"]
        assert title.startswith(f"{choice.name}: {values[choice.name]} of {choice.values[-1]}")
        assert title.endswith("left out") != is_there
        assert height == pytest.approx(
            full * values[choice.name] / choice.values[-1] if is_there else 0, abs=1.5
        )
    assert told["depths"] == [f"{values[f'layer{stage}.depth']}/3" for stage in (1, 2, 3)]


def test_a_click_pins_and_the_mouse_may_go(page: Page) -> None:
    page.click(*spot(page, "subnet A"))
    page.until("document.querySelector('#subnet header small').textContent === 'pinned'")
    page.move(2, 2)
    assert shown(page)["title"] == "Subnet A"
    page.until("document.querySelector('#evaluations tr.at th').textContent === 'Subnet A'")
    a, ring = spot(page, "subnet A"), spot(page, "ring")
    assert ring == pytest.approx(a, abs=0.5)
    page.press("Escape")
    page.until("document.querySelector('#subnet b').textContent === 'Subnet B'")


def test_a_box_selects_for_the_lines_and_the_table(page: Page, make_report: Make) -> None:
    report = make_report()
    assert counts(page) == ("all 160 subnets", 160, 160)
    page.middle("#front")
    frame = page.value(
        "(() => { const g = document.getElementById('front'), { xaxis, yaxis } = g._fullLayout, b = g.getBoundingClientRect();"
        "return [b.x + xaxis._offset, b.y + yaxis._offset, xaxis._length, yaxis._length, xaxis.range, yaxis.range]; })()"
    )
    left, top, width, height, (x0, x1), (y0, y1) = frame

    def share(x: float, y: float) -> tuple[float, float]:
        return (log10(x) - x0) / (x1 - x0), (y - y0) / (y1 - y0)

    page.drag(left + 0.2 * width, top + 0.1 * height, left + 0.55 * width, top + 0.6 * height)
    page.until("document.querySelector('.count').textContent.includes(' of 160 ')")
    places = [(i, share(e.latency_ms, e.metric_percent)) for i, e in enumerate(report.evaluations)]
    places += [(i, share(p.latency_ms, p.metric_int8_percent)) for i, p in enumerate(report.front)]
    inside = {i for i, (x, y) in places if 0.2 < x < 0.55 and 0.4 < y < 0.9}
    assert 5 < len(inside) < 150
    assert counts(page) == (f"{len(inside)} of 160 subnets", len(inside), len(inside))
    faded = page.value("document.getElementById('front').data[0].selectedpoints.length")
    assert faded < 160
    page.value("document.querySelector('#filters button').click()")
    assert counts(page) == ("all 160 subnets", 160, 160)


def test_a_limit_filters_everything(page: Page, make_report: Make) -> None:
    report = make_report()
    measured = {i: p.latency_ms for i, p in enumerate(report.front)}
    latencies = [measured.get(i, e.latency_ms) for i, e in enumerate(report.evaluations)]
    page.click(*page.middle("#filters input[name=latency]"))
    slider = "document.querySelector('#filters input[name=latency]')"
    page.until(f"{slider}.nextSibling.textContent.startsWith('≤')")
    limit = sorted(set(latencies))[int(page.value(f"{slider}.value"))]
    assert page.value(f"{slider}.nextSibling.textContent") == f"≤ {float(f'{limit:.2e}'):.3g} ms"
    left = sum(own <= limit for own in latencies)
    assert 40 < left < 120
    page.until(
        "document.querySelector('.count').textContent.includes(' of 160 ')"
    )  # drawn with the next frame
    assert counts(page) == (f"{left} of 160 subnets", left, left)
    opacity = page.value("document.getElementById('front').data[0].marker.opacity")
    assert sum(own > 0.1 for own in opacity) == left
    shown_lines = page.value("document.querySelectorAll('#front .errorbars path').length")
    page.value("document.querySelector('#filters button').click()")
    page.until("document.querySelector('#filters button').disabled")
    assert counts(page) == ("all 160 subnets", 160, 160)
    assert page.value("document.querySelectorAll('#front .errorbars path').length") >= shown_lines


def test_the_table_sorts_and_its_rows_point(page: Page, make_report: Make) -> None:
    report = make_report()
    page.value(
        "[...document.querySelectorAll('#evaluations th button')].find((own) => own.textContent === 'MACs').click()"
    )
    best = max(range(160), key=lambda i: report.evaluations[i].macs or 0)
    first = "document.querySelector('#evaluations tbody tr')"
    assert page.value(f"Number({first}.dataset.id)") == best
    assert page.value("document.querySelector('th[aria-sort]').getAttribute('aria-sort')") == "descending"
    page.move(*page.middle("#evaluations tbody tr"))
    page.until(f"document.querySelector('#parallel .over path')?.dataset.at === '{best}'")
    page.until(f"document.querySelector('#subnet b').textContent === 'Subnet {best + 1}'")


def test_lines_are_coloured_by_latency_when_asked(page: Page) -> None:
    stroke = "getComputedStyle(document.querySelector('#parallel path[data-id=\"3\"]')).stroke"
    before = page.value(stroke)
    page.click(*page.middle("#colours button:last-child"))
    page.until(f"{stroke} !== {json.dumps(before)}")
    assert page.value("document.querySelector('#colours [aria-pressed=true]').textContent") == "Latency"
    page.click(*page.middle("#colours button"))
    assert page.value("document.querySelectorAll('#parallel .axis').length") == 12 + 2


def test_every_link_leads_to_a_file(page: Page, run: Path) -> None:
    links = page.value("[...document.querySelectorAll('.files a')].map((own) => [own.href, own.download])")
    assert len(links) == 4 * 6
    for address, name in links:
        path = Path(unquote(urlparse(address).path))
        assert path.is_file()
        assert path.is_relative_to(run)
        assert name == f"quickstart-{path.parent.name}-{path.name}"


def test_a_download_comes(page: Page, run: Path, tmp_path: Path) -> None:
    page.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.click(*page.middle('.files a[href="subnets/A/int8.bin"]'))
    page.until(f"{json.dumps(str(tmp_path))}")
    for _ in range(600):
        if found := [path for path in tmp_path.iterdir() if path.suffix == ".bin"]:
            assert found[0].read_bytes() == b"subnets/A/int8.bin"
            return
        page.value("new Promise((done) => setTimeout(done, 100))")
    raise AssertionError("nothing was downloaded")


def test_the_page_asks_for_nothing_and_complains_of_nothing(page: Page) -> None:
    assert page.problems == page.requested == []
    assert page.value("performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize(
    ("name", "dark", "phone"), [("light", False, False), ("dark", True, False), ("phone", False, True)]
)
def test_it_fits_and_a_screenshot_is_kept(
    run: Path, tmp_path: Path, name: str, dark: bool, phone: bool
) -> None:
    width, height = (390, 844) if phone else (1280, 900)
    with opened(run / "report.html", tmp_path, width=width, height=height, dark=dark, phone=phone) as page:
        page.until("document.querySelector('#parallel .lines path')")
        wide, window = page.value("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= window == width
        surface = page.value("getComputedStyle(document.getElementById('subnet')).backgroundColor")
        assert surface == ("rgb(28, 32, 36)" if dark else "rgb(255, 255, 255)")
        page.click(*spot(page, "subnet A"))
        page.until("document.querySelector('#subnet b').textContent === 'Subnet A'")
        if phone:  # axes lie below one another
            first, second = page.value(
                "[...document.querySelectorAll('#parallel .axis line')].slice(0, 2).map((own) => own.getBoundingClientRect().y)"
            )
            assert second > first
        page.screenshot(tmp_path / f"{name}.png")
        assert page.problems == page.requested == []
    assert (tmp_path / f"{name}.png").stat().st_size > 50_000


def test_names_are_text(make_report: Make, tmp_path: Path) -> None:
    report = make_report()
    names = [replace(own, name=own.name.replace("layer1", EVIL), targets=()) for own in report.choices]
    subnets = (replace(report.subnets[0], name=EVIL), *report.subnets[1:])
    front = tuple(replace(p, names=(EVIL,)) if "A" in p.names else p for p in report.front)
    evil = make_report(run=EVIL, choices=tuple(names), subnets=subnets, front=front, failed={EVIL: 1})
    write_report(evil, tmp_path)
    with opened(tmp_path / "report.html", tmp_path) as page:
        page.until("document.querySelector('#parallel .lines path')")
        page.click(*page.middle("#evaluations tbody tr.front"))
        assert page.value("document.querySelectorAll('img').length") == 0
        assert EVIL in page.value("document.body.textContent")
        assert page.problems == page.requested == []


NOTHING: dict[str, Any] = {"choices": (), "importance": (), "rounds": (), "constraints": (), "failed": {}}


@pytest.mark.parametrize(
    "changed",
    [
        {**NOTHING, "subnets": (), "front": (), "evaluations": (), "hypervolume": ()},
        {**NOTHING, "evaluations": (), "hypervolume": ()},
        NOTHING,
    ],
)
def test_a_page_with_little_on_it_does_not_complain(
    make_report: Make, tmp_path: Path, changed: dict[str, Any]
) -> None:
    write_report(make_report(**changed), tmp_path)
    with opened(tmp_path / "report.html", tmp_path) as page:
        page.until("document.querySelector('#subnet b')")
        page.click(*spot(page, "original, INT8"))
        page.until("document.querySelector('#subnet b').textContent === 'Original'")
        page.press("Escape")
        assert page.problems == page.requested == []
