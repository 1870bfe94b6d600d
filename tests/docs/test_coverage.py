"""docs/coverage.md has a row for every network there is."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.examine import names

PAGE = (Path(__file__).parents[2] / "docs" / "coverage.md").read_text(encoding="utf-8")


def test_every_network_has_one_row() -> None:
    rows = re.findall(r"^\| ([^|]+?) \| [^|]*×", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(names()), "python -m benchmarks.coverage --rows FILE --only NAME --write"
