"""The page in a real browser, offline: plots drawn, buttons work, no error, no request, nothing injected."""

from __future__ import annotations

from functools import partial

import browser
import pytest

from bnas.report.page import page

pytestmark = browser.needs_chromium

PROBE = """<script>
const seen = { errors: [], blocked: [], alerts: 0 };
addEventListener("error", (e) => seen.errors.push(String(e.message || e.target.src)), true);
addEventListener("securitypolicyviolation", (e) => seen.blocked.push(e.blockedURI));
alert = () => seen.alerts++;
// A clipboard that answers at once: the browser's own answers in real time, while the page's timers run ahead of it.
Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => { seen.copied = text; } } });
addEventListener("load", () => {
  document.querySelector(".command button")?.click();
  setTimeout(() => {
    for (const div of document.querySelectorAll(".plot > div"))
      seen[div.id] = {
        points: div.querySelectorAll(".scatterlayer .point").length,
        lines: div.querySelectorAll(".scatterlayer .js-line").length,
        bars: div.querySelectorAll(".scatterlayer .errorbar, .barlayer .point").length,
        size: [div.querySelector(".main-svg").clientWidth, div.querySelector(".main-svg").clientHeight],
        ink: getComputedStyle(div.querySelector(".xtitle")).fill,
      };
    seen.button = document.querySelector(".command button")?.textContent;
    seen.requests = performance.getEntriesByType("resource").map((r) => r.name);
    seen.width = [document.documentElement.scrollWidth, innerWidth];
    document.documentElement.dataset.seen = JSON.stringify(seen);
  }, 800);
});
</script>"""


look = partial(browser.look, PROBE)


@pytest.fixture(scope="module")
def seen(make_report, tmp_path_factory):
    return look(page(make_report(run="<script>alert(1)</script>")), tmp_path_factory.mktemp("page"))


def test_the_page_works_offline(seen):
    assert seen["errors"] == seen["blocked"] == seen["requests"] == []
    assert seen["alerts"] == 0
    front = seen["front"]
    # 9 predicted, 6 measured, 3 chosen, 2 references, the ring; of the 160 evaluated those that are in range
    assert 60 < front["points"] - 9 - 6 - 3 - 2 - 1 <= 160
    assert front["bars"] == 6 + 3 + 2
    assert front["size"][0] > 700
    assert front["size"][1] > 400
    assert seen["prediction"]["points"] == 9 + 3
    assert seen["progress"]["lines"] == 1 + 2  # hypervolume, and what was foretold of two values
    assert seen["importance"]["bars"] == 2 * 12
    assert seen["button"] == "Copied"
    assert seen["copied"].startswith("python -m bnas")
    assert seen["width"][0] <= seen["width"][1]


def test_the_dark_theme_recolours_the_plots(make_report, tmp_path, seen):
    dark = look(page(make_report()), tmp_path, "--blink-settings=preferredColorScheme=0")
    assert (seen["front"]["ink"], dark["front"]["ink"]) == ("rgb(28, 33, 38)", "rgb(231, 233, 234)")


def test_the_probe_would_notice_a_request(make_report, tmp_path):
    html = page(make_report()).replace("<main>", '<main><img src="https://example.invalid/x.png">', 1)
    assert look(html, tmp_path)["blocked"] == ["https://example.invalid/x.png"]
