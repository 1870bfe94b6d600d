"""docs/measuring.md names every option, every backend and every group of hardware there is, and its code runs."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from bnas.cluster import RayConfig
from bnas.measure import BACKENDS, HwConfig, MeasureConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "measuring.md").read_text(encoding="utf-8")
# The page's example with few rounds of few subnets; a campaign itself is tested in tests/measure/test_campaign.py.
SMALL = {
    "(1, 28, 28)": "(1, 8, 8)",
    "samples=12, holdout=4, max_rounds=20": "samples=5, holdout=1, retries=0, min_rounds=1, max_rounds=1, warmup_ms=0.0",
}
NAMED = set(re.findall(r"\b(\w+)\b", " ".join(re.findall(r"`([^`\n]+)`", PAGE))))


@pytest.mark.parametrize("kind", [HwConfig, MeasureConfig, RayConfig])
def test_every_option_is_named(kind: type) -> None:
    assert sorted({field.name for field in fields(kind)} - NAMED) == []  # type: ignore[arg-type]


def test_every_backend_and_every_group_is_named() -> None:
    assert sorted(set(BACKENDS) - NAMED) == []
    rows = PAGE[PAGE.index("| `--hw` |") : PAGE.index("| option of `hw` |")]
    listed = {
        name
        for row in re.findall(r"^\| (`[^|]+) \|", rows, re.MULTILINE)[1:]
        for name in re.findall(r"`(\w+)`", row)
    }
    assert listed == {path.stem for path in (ROOT / "conf" / "hw").glob("*.yaml")}


def test_the_errors_that_are_quoted_are_those_of_the_code() -> None:
    quoted = re.findall(r'\*\*"([^*]+)"\*\*', PAGE) + re.findall(r'\*\*"([^"]+)", "', PAGE)
    quoted = [text for several in quoted for text in several.split('", "')]
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "bnas").glob("**/*.py"))
    assert len(quoted) >= 4
    assert [text for text in quoted if text not in code] == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_way_from_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^```python\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)
    for usual, small in SMALL.items():
        assert code.count(usual) == 1
        code = code.replace(usual, small)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "docs/measuring.md", "exec", dont_inherit=True), names)
    smallest = names["smallest"]
    assert 0 < smallest.low_ms < smallest.ms < smallest.high_ms  # type: ignore[attr-defined]
    assert len((tmp_path / "measurements.jsonl").read_text().splitlines()) == 5
