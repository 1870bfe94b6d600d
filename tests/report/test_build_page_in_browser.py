"""build.html in a real browser, offline: drawn, lit up by the pointer, no error, no request, nothing injected."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import browser
import pytest
from residual_graph import SPACE, residual

from bnas.report.build_page import build_page

pytestmark = browser.needs_chromium

PROBE = """<script>
const seen = { errors: [], blocked: [], alerts: 0 };
addEventListener("error", (e) => seen.errors.push(String(e.message || e.target.src)), true);
addEventListener("securitypolicyviolation", (e) => seen.blocked.push(e.blockedURI));
alert = () => seen.alerts++;
addEventListener("load", () => {
  const rows = [...document.querySelectorAll(".map li")];
  const marked = (name) => rows.flatMap((row, i) => (row.classList.contains(name) ? [i] : []));
  const over = (element) => element.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
  const middle = (box) => (box.top + box.bottom) / 2;
  over(rows[1].querySelector("code"));
  seen.inner = [marked("hot"), marked("reads"), document.querySelectorAll(".edges path.hot").length];
  over(rows[2].querySelector("em"));
  seen.trunk = [marked("hot"), marked("reads"), document.querySelectorAll(".edges path.hot").length];
  document.querySelector(".map").dispatchEvent(new PointerEvent("pointerleave"));
  seen.left = [marked("hot"), marked("reads")];
  seen.titles = [...document.querySelectorAll("path > title")].map((title) => title.textContent.split("\\n")[0]);
  const curve = document.querySelector(".edges path").getBoundingClientRect();
  seen.curve = [curve.top - middle(rows[0].getBoundingClientRect()), curve.bottom - middle(rows[1].getBoundingClientRect())];
  seen.dots = rows.map((row) => getComputedStyle(row.querySelector("i")).backgroundColor);
  seen.requests = performance.getEntriesByType("resource").map((r) => r.name);
  seen.width = [document.documentElement.scrollWidth, innerWidth];
  document.documentElement.dataset.seen = JSON.stringify(seen);
});
</script>"""


look = partial(browser.look, PROBE)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return look(
        build_page(residual(), SPACE, name="<img src=x onerror=alert(1)>"), tmp_path_factory.mktemp("page")
    )


def test_it_works_offline(seen: dict[str, Any]) -> None:
    assert seen["errors"] == seen["blocked"] == seen["requests"] == []
    assert seen["alerts"] == 0
    assert seen["width"][0] <= seen["width"][1]
    assert len(set(seen["dots"][:5])) == 1
    assert seen["dots"][5] != seen["dots"][0]


def test_the_layer_under_the_pointer_lights_up_with_its_width_and_its_readers(seen: dict[str, Any]) -> None:
    assert seen["inner"] == [[1], [2], 1]
    assert seen["trunk"] == [[0, 2, 4], [1, 3, 5], 3]
    assert seen["left"] == [[], []]


def test_curves_and_brackets_have_texts_and_lie_beside_their_layers(seen: dict[str, Any]) -> None:
    assert seen["titles"][:3] == ["stage.0", "stage.1", "stage: a stage of 2 blocks"]
    assert seen["titles"][3] == "stem → stage.0.a: stem"
    assert all(abs(off) < 2 for off in seen["curve"])


def test_the_probe_would_notice_a_request(tmp_path: Path) -> None:
    html = build_page(residual(), SPACE).replace(
        "<main>", '<main><img src="https://example.invalid/x.png">', 1
    )
    assert look(html, tmp_path)["blocked"] == ["https://example.invalid/x.png"]
