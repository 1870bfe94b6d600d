"""Pages opened in a real browser, offline; a script that is put in front of the page tells what it saw."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; apt-get install chromium")


def look(probe: str, html: str, folder: Path, *options: str) -> dict[str, Any]:
    """What the probe saw on the page: a script that leaves JSON in the document's `data-seen`."""
    path = folder / "page.html"
    path.write_text(html.replace("<style>", probe + "<style>", 1), encoding="utf-8")
    command = [
        str(CHROMIUM),
        *["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
        *["--disable-background-networking", "--disable-component-update", "--disable-sync"],
        *["--disable-dev-shm-usage", "--virtual-time-budget=6000", "--dump-dom", "--window-size=1200,900"],
        f"--user-data-dir={folder / 'profile'}",
        *options,
        path.as_uri(),
    ]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'data-seen="([^"]*)"', dumped)
    assert found, f"the page's script did not finish: {dumped[-2000:]}"
    return dict(json.loads(unescape(found[1])))
