"""training.html in a real browser, offline: every plot drawn, no error, no request, nothing injected."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import browser
import pytest

from bnas.report import Curve, Training
from bnas.report.training import training_page

pytestmark = browser.needs_chromium

PROBE = """<script>
const seen = { errors: [], blocked: [], alerts: 0 };
addEventListener("error", (e) => seen.errors.push(String(e.message || e.target.src)), true);
addEventListener("securitypolicyviolation", (e) => seen.blocked.push(e.blockedURI));
for (const level of ["error", "warn"]) {
  const usual = console[level];
  console[level] = (...told) => { seen.errors.push(told.join(" ")); usual(...told); };
}
alert = () => seen.alerts++;
addEventListener("load", () => setTimeout(() => {
  seen.plots = [...document.querySelectorAll(".plot > div")].map((div) => ({
    title: div.querySelector(".ytitle")?.textContent,
    lines: div.querySelectorAll(".scatterlayer .js-line").length,
    bars: div.querySelectorAll(".barlayer .point").length,
    ends: div.querySelectorAll(".shapelayer path").length,
    size: [div.querySelector(".main-svg").clientWidth, div.querySelector(".main-svg").clientHeight],
    ink: getComputedStyle(div.querySelector(".xtitle")).fill,
  }));
  seen.requests = performance.getEntriesByType("resource").map((r) => r.name);
  seen.width = [document.documentElement.scrollWidth, innerWidth];
  document.documentElement.dataset.seen = JSON.stringify(seen);
}, 800));
</script>"""

EVIL = "<img src=x onerror=alert(1)>"


def training(name: str) -> Training:
    steps = tuple(range(9, 1009, 10))

    def curve(name: str, scale: float) -> Curve:
        return Curve(name=name, steps=steps, values=tuple(scale / step for step in steps))

    subnets = ("largest", "smallest", "random-1", EVIL)
    metrics = (curve(f"top1_percent/{subnet}", scale) for scale, subnet in enumerate(subnets, start=1))
    return Training(
        name=name,
        curves=(curve("loss", 5), curve("lr", 0.1), curve("images_per_s", 1e4), *metrics),
        macs=tuple(1e6 * step for step in steps),
        ends=((EVIL, 500), ("width", 999)),
    )


look = partial(browser.look, PROBE)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return look(
        training_page(EVIL, (training("pretrain"), training("train"))), tmp_path_factory.mktemp("page")
    )


def test_every_curve_is_drawn(seen: dict[str, Any]) -> None:
    titles = [
        "loss",
        "learning rate",
        "images per second",
        "top-1, validation images, %",
        "subnets drawn",
    ]
    assert [plot["title"] for plot in seen["plots"]] == 2 * titles
    # the loss with its running mean; four subnets
    assert [plot["lines"] for plot in seen["plots"]] == 2 * [2, 1, 1, 4, 0]
    assert [plot["bars"] for plot in seen["plots"]] == 2 * [0, 0, 0, 0, 40]
    assert [plot["ends"] for plot in seen["plots"]] == 2 * [2, 2, 2, 2, 0]
    assert all(plot["size"][0] > 400 and plot["size"][1] > 300 for plot in seen["plots"])


def test_it_works_offline_without_an_error(seen: dict[str, Any]) -> None:
    assert seen["errors"] == seen["blocked"] == seen["requests"] == []
    assert seen["alerts"] == 0
    assert seen["width"][0] <= seen["width"][1]


def test_the_dark_theme_recolours_the_plots_and_the_probe_would_notice_a_request(
    seen: dict[str, Any], tmp_path: Path
) -> None:
    html = training_page("toy", (training("train"),))
    html = html.replace("<main>", '<main><img src="https://example.invalid/x.png">', 1)
    dark = look(html, tmp_path, "--blink-settings=preferredColorScheme=0")
    inks = {plot["ink"] for plot in seen["plots"]}, {plot["ink"] for plot in dark["plots"]}
    assert inks == ({"rgb(28, 33, 38)"}, {"rgb(231, 233, 234)"})
    assert dark["blocked"] == ["https://example.invalid/x.png"]
