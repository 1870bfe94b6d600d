"""latency.html in a real browser, offline: every plot drawn, no error, no request, nothing injected, on a phone too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import browser
import pytest

from bnas.report import LatencyReport
from bnas.report.latency import latency_page
from bnas.report.page import page

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
  for (const div of document.querySelectorAll(".plot > div"))
    seen[div.id] = {
      points: div.querySelectorAll(".scatterlayer .point").length,
      lines: div.querySelectorAll(".scatterlayer .js-line").length,
      errorbars: div.querySelectorAll(".scatterlayer .errorbar").length,
      fills: [...div.querySelectorAll(".scatterlayer .js-fill")].map((path) => getComputedStyle(path).fill),
      bars: div.querySelectorAll(".barlayer .point").length,
      size: [div.querySelector(".main-svg").clientWidth, div.querySelector(".main-svg").clientHeight],
      ink: getComputedStyle(div.querySelector(".xtitle")).fill,
    };
  seen.requests = performance.getEntriesByType("resource").map((r) => r.name);
  seen.width = [document.documentElement.scrollWidth, innerWidth];
  document.documentElement.dataset.seen = JSON.stringify(seen);
}, 800));
</script>"""

EVIL = "<img src=x onerror=alert(1)>"
look = partial(browser.look, PROBE)
Make = Callable[..., LatencyReport]


@pytest.fixture(scope="module")
def seen(make_latency: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    report = make_latency(run=EVIL, notes=(EVIL,))
    evil = tuple(replace(subnet, config_digest=EVIL) for subnet in report.subnets)
    return look(latency_page(replace(report, subnets=evil)), tmp_path_factory.mktemp("page"))


def test_everything_is_drawn(seen: dict[str, Any]) -> None:
    predicted, residuals = seen["latency-predicted"], seen["latency-residuals"]
    # held out, left out in turn, and a line through MACs; an error bar for each prediction
    assert predicted["points"] == 60 + 60
    assert predicted["errorbars"] == residuals["errorbars"] == 60
    assert 60 < residuals["points"] <= 120  # of the line through MACs those that are in range
    assert len([fill for fill in predicted["fills"] if fill == "rgb(236, 236, 231)"]) == 1
    assert seen["latency-learning"]["lines"] == 3
    assert seen["latency-drift"]["points"] == seen["latency-errors"]["points"] == 60
    assert seen["latency-cost"]["bars"] == 4 * 60
    assert predicted["size"][0] > 900
    assert predicted["size"][1] > 400


def test_it_works_offline_without_an_error(seen: dict[str, Any]) -> None:
    assert seen["errors"] == seen["blocked"] == seen["requests"] == []
    assert seen["alerts"] == 0
    assert seen["width"][0] <= seen["width"][1]


def test_it_fits_a_phone_and_the_dark_theme_recolours_the_plots(
    make_latency: Make, seen: dict[str, Any], tmp_path: Path
) -> None:
    options = ("--window-size=500,900", "--blink-settings=preferredColorScheme=0")
    dark = look(latency_page(make_latency()), tmp_path, *options)
    assert dark["width"][0] <= dark["width"][1] <= 500
    assert dark["errors"] == []
    inks = seen["latency-drift"]["ink"], dark["latency-drift"]["ink"]
    assert inks == ("rgb(28, 33, 38)", "rgb(231, 233, 234)")
    assert "rgb(40, 45, 50)" in dark["latency-predicted"]["fills"]


def test_the_report_shows_the_predictor_too(
    make_latency: Make, make_report: Callable[..., Any], tmp_path: Path
) -> None:
    shown = look(page(make_report(), make_latency()), tmp_path)
    assert shown["errors"] == []
    assert shown["latency-predicted"]["points"] == 120
    assert shown["front"]["points"] > 0
