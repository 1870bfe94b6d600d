"""Every example of docs/extending.md runs as it stands, section by section, each in a fresh folder."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bnas.__main__ import main
from bnas.data import DATASETS
from bnas.export import EXPORTERS
from bnas.graph.rules import AFTER_RULES, FUNCTION_RULES, MODULE_RULES
from bnas.measure import BACKENDS
from bnas.measure.predictors import PREDICTORS
from bnas.models import FAMILIES
from bnas.quantize import QUANTIZERS
from bnas.search import SEARCHES
from bnas.supernet import ELASTIC, IMPORTANCE
from bnas.train import SCHEDULES, TASKS

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
TABLES = (
    AFTER_RULES, BACKENDS, DATASETS, ELASTIC, EXPORTERS, FAMILIES, FUNCTION_RULES, IMPORTANCE, MODULE_RULES,
    PREDICTORS, QUANTIZERS, SCHEDULES, SEARCHES, TASKS,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block: its language, the file it is (or ""), its text, the line of the page it starts in."""

    language: str
    file: str
    text: str
    line: int


def sections() -> dict[str, list[Block]]:
    """The blocks of every section of the page that has any, in order."""
    page = PAGE.read_text(encoding="utf-8")
    found: dict[str, list[Block]] = {}
    title = ""
    for match in re.finditer(
        r"^## (?P<title>.+)$|^```(?P<info>\w+.*)\n(?P<text>(?:.*\n)*?)```$", page, re.MULTILINE
    ):
        if match["title"]:
            title = match["title"]
            continue
        language, _, file = match["info"].partition(" file=")
        line = page.count("\n", 0, match.start("text"))
        found.setdefault(title, []).append(Block(language=language, file=file, text=match["text"], line=line))
    return found


@pytest.fixture
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working folder that Python imports from; afterwards the tables are as they were."""
    before = [dict(table) for table in TABLES]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for table, content in zip(TABLES, before, strict=True):
        table.clear()
        table.update(content)
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("title", sections())
def test_examples_of_a_section_run(title: str) -> None:
    for block in sections()[title]:
        if block.file:
            path = Path(block.file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "bash":
            words = shlex.split(block.text)
            assert words[:3] == ["python", "-m", "bnas"]
            assert main([*words[3:], "data.val_images=50", "data.train_images=50"]) == 0
        else:
            assert block.language == "python"
            code = compile("\n" * block.line + block.text, str(PAGE), "exec", dont_inherit=True)
            exec(code, {"__name__": "example"})


def test_every_plugin_table_has_a_section() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for entry in (
        "FAMILIES", "@rule(", "@module_rule(", "@after_rule(", "ELASTIC[", "IMPORTANCE[", "BACKENDS[",
        "PREDICTORS[", "SEARCHES[", "@quantizer(", "@exporter(", "TASKS[", "DATASETS[", "plugins: [",
    ):  # fmt: skip
        assert entry in page
    assert len(sections()) == 15
