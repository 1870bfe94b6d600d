"""compare.html in a real Chromium: everything drawn, nothing asked of the network, on a phone and in the dark too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import browser
import pytest
from devtools import opened

from bnas.report import Report
from bnas.report.compare import Compared, write_comparison

pytestmark = browser.needs_chromium


@pytest.mark.parametrize(("name", "dark", "phone"), [("light", False, False), ("phone", True, True)])
def test_the_fronts_lie_over_one_another(
    make_report: Callable[..., Report], tmp_path: Path, name: str, dark: bool, phone: bool
) -> None:
    one = make_report()
    runs = [
        Compared(name="quickstart", report=one, options={"search.algorithm": "linas", "seed": 0}, page="a/report.html"),
        Compared(name="smaller", report=make_report(run="smaller", front=one.front[:5]), options={"search.algorithm": "nsga2", "seed": 0}),
    ]  # fmt: skip
    path = tmp_path / "compare.html"
    write_comparison(runs, path)
    width, height = (390, 844) if phone else (1280, 900)
    with opened(path, tmp_path, width=width, height=height, dark=dark, phone=phone) as page:
        page.until("document.querySelector('#fronts .scatterlayer .point')")
        assert page.value("document.querySelectorAll('#fronts .scatterlayer .point').length") == 9 + 5 + 2
        assert page.value("document.querySelectorAll('#progress .scatterlayer .js-line').length") == 2
        assert page.value("document.documentElement.scrollWidth") <= width
        assert page.value("document.querySelectorAll('tbody tr').length") == 2 * 4 + 1
        page.screenshot(tmp_path / f"{name}.png")
        assert page.problems == page.requested == []
    assert (tmp_path / f"{name}.png").stat().st_size > 30_000
