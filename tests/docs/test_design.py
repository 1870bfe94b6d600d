"""docs/design.md describes what is there: the folders, the commands, the layers, and a way in Python that runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bnas.commands import COMMANDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
# The page's example takes minutes with the defaults; these take seconds.
SMALL = {
    "DataConfig()": "DataConfig(train_images=100, val_images=50)",
    "PretrainConfig()": "PretrainConfig(epochs=1.0)",
    "TrainConfig()": "TrainConfig(stages=(bnas.Stage(name='all', dims={'depth': 0, 'width': 0}),))",
    "MeasureConfig()": "MeasureConfig(samples=4, holdout=1, retries=0, min_rounds=1, max_rounds=1, warmup_ms=0.0)",
    "SearchConfig()": "SearchConfig(evaluations=3, population=2)",
    "latency_ms=0.2": "latency_ms=1000.0",
}


def block(after: str, language: str = "") -> str:
    """The first fenced block of the page after a piece of its text."""
    rest = PAGE[PAGE.index(after) :]
    return re.findall(rf"^```{language}\n((?:.*\n)*?)```$", rest, re.MULTILINE)[0]


def test_the_folders_are_there() -> None:
    listed = block("## 2. Folders")
    package = listed[listed.index("bnas/\n") : listed.index("tests/ ")]
    folders = set(re.findall(r"^  (\w+)/ ", package, re.MULTILINE))
    assert folders == {path.parent.name for path in (ROOT / "bnas").glob("*/__init__.py")}
    files = set(re.findall(r"\b(\w+\.py)\b", package))
    assert files == {path.name for path in (ROOT / "bnas").glob("*.py")}


def test_the_commands_are_there() -> None:
    table = re.findall(r"^\| `(\w+)` \| ", PAGE[PAGE.index("## 5. ") : PAGE.index("## 6. ")], re.MULTILINE)
    assert table == list(COMMANDS)


def test_the_layers_are_those_that_are_checked() -> None:
    contract = re.search(
        r"^layers = \[\n((?:.*\n)*?)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert contract
    assert block("line may import those below it").split() == re.sub(r'bnas\.|[",]', "", contract[1]).split()


def test_the_way_in_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = block("The whole way in Python", "python")
    for usual, small in SMALL.items():
        assert code.count(usual) == 1
        code = code.replace(usual, small)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/design.md", "exec", dont_inherit=True), {})
    assert (tmp_path / "subnet.bin").stat().st_size > 0


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("**/*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"
