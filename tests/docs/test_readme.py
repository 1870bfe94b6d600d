"""What README.md says of the builder is so: the networks, the dimensions, what `build` prints, the library's way."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from bnas.__main__ import main
from bnas.commands import COMMANDS
from bnas.config import SpaceOptions
from bnas.models import FAMILIES
from bnas.space import DIMENSIONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
OWN = ("tiny_resnet", "retinanet", "ssd_resnet34")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def block(after: str, language: str = "") -> str:
    """The first fenced block of the language after a piece of the page's text."""
    rest = PAGE[PAGE.index(after) :]
    return re.findall(rf"^```{language}\n((?:.*\n)*?)```$", rest, re.MULTILINE)[0]


def test_so_many_networks_of_torchvision() -> None:
    said = re.search(
        r"every network of torchvision: (\d+) for classification, (\d+) for segmentation, (\d+) for detection, "
        r"(\d+) for video",
        PAGE.replace("\n", " "),
    )
    assert said
    tasks = Counter(family.task for family in FAMILIES.values() if family.name not in OWN)
    kinds = ("classification", "segmentation", "detection", "video")
    assert tuple(map(int, said.groups())) == tuple(tasks[kind] for kind in kinds)


def test_the_dimensions_and_their_options() -> None:
    table = re.findall(r"^\| `(\w+)` \|[^|]*\|(.*)\|$", PAGE, re.MULTILINE)
    assert {dim for dim, _ in table} == set(DIMENSIONS)
    known = {field.name for field in fields(SpaceOptions)} | {"first", "spread", "free"}
    assert {option for _, options in table for option in re.findall(r"`(\w+)`", options)} <= known


def test_build_prints_the_lines_that_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = block("## What can be elastic", "bash").split()
    assert command[:3] == ["python", "-m", "bnas"]
    monkeypatch.chdir(tmp_path)
    assert main(command[3:]) == 0
    printed = capsys.readouterr().out.splitlines()
    for line in block("Some of its lines").splitlines():
        assert any(own.startswith(line) for own in printed), line


def test_the_way_as_a_library_runs() -> None:
    names: dict[str, object] = {}
    exec(f"import bnas\n{block('And the whole of it as a library', 'python')}", names)
    assert names["smallest"](torch.randn(1, 3, 64, 64)).shape == (1, 10)  # type: ignore[operator]


def test_the_hardware_of_measuring_is_there() -> None:
    section = PAGE[PAGE.index("## Measuring") : PAGE.index("## What is supported")]
    named = set(
        re.findall(r"`(\w+)`", section[section.index("- `--hw` names") : section.index(", or a YAML")])
    )
    named |= set(re.findall(r"--hw (\w+)", section))
    assert named == {path.stem for path in (ROOT / "conf" / "hw").glob("*.yaml")}
    for command in re.findall(r"^python -m bnas (\w+)", section, re.MULTILINE):
        assert command in COMMANDS


def test_the_extras_are_those_of_the_package() -> None:
    extras = re.search(r"^\[project.optional-dependencies\]\n((?:.*\n)*?)\n", PYPROJECT, re.MULTILINE)
    assert extras
    known = set(re.findall(r"^(\w+) = ", extras[1], re.MULTILINE)) - {"dev"}
    assert set(re.findall(r"`bnas\[(\w+)\]`", PAGE)) == known


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert target.startswith("https://") or (ROOT / target).exists(), target
