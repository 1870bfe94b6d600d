"""docs/training.md names every option, every kind and every recipe there is, and its code runs."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from bnas.train import (
    DIVERGENCES,
    FEATURE_LOSSES,
    OPTIMIZERS,
    SAMPLINGS,
    SCHEDULES,
    FeatureMatch,
    FinetuneConfig,
    PretrainConfig,
    Stage,
    TrainConfig,
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"\b(\w+)\b", " ".join(re.findall(r"`([^`\n]+)`", PAGE))))


@pytest.mark.parametrize("kind", [Stage, TrainConfig, PretrainConfig, FinetuneConfig, FeatureMatch])
def test_every_option_is_named(kind: type) -> None:
    assert sorted({field.name for field in fields(kind)} - NAMED) == []  # type: ignore[arg-type]


def test_every_kind_and_every_recipe_is_named() -> None:
    for table in (DIVERGENCES, FEATURE_LOSSES, OPTIMIZERS, SAMPLINGS, SCHEDULES):
        assert sorted(set(table) - NAMED) == []
    rows = PAGE[PAGE.index("## Recipes") : PAGE.index("## Stages")]
    listed = {
        name
        for row in re.findall(r"^\| (`[^|]+) \|", rows, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert listed == {path.stem for path in (ROOT / "conf" / "train").glob("*.yaml")}


def test_the_way_from_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^```python\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "docs/training.md", "exec", dont_inherit=True), names)
    assert 0 <= float(str(names["top1_percent"])) <= 100
    assert list((tmp_path / "checkpoints").glob("*.pt"))
