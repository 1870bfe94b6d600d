"""`bnas show` on a run that is built, and has one subnet."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnas.__main__ import main
from bnas.commands.extract import SubnetFile
from bnas.files import read_json, write_json
from bnas.space import SearchSpace, SubnetConfig


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose subnet A is the largest but for the width of its first layer."""
    home = tmp_path_factory.mktemp("show")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert main(["build", "model=tiny_resnet"]) == 0
    run = home / "runs" / "tiny_resnet"
    space = read_json(run / "space.json", SearchSpace)
    config = SubnetConfig({**dict(space.largest.items()), "conv1.width": 16})
    write_json(run / "subnets" / "A" / "subnet.json", SubnetFile(name="A", config=config))
    write_json(run / "subnets" / "reference" / "subnet.json", SubnetFile(name="reference", config=None))
    return home


@pytest.fixture(autouse=True)
def _inside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> list[list[str]]:
    """The lines that are printed, in words."""
    capsys.readouterr()
    assert main(["show", *words]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(["show", *words]) == 2
    return capsys.readouterr().err.strip().removeprefix("bnas: error: ")


def test_the_space(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "space")
    assert ["layer1.depth", "depth", "0", "1", "2", "3", "layer1.0", "layer1.1", "layer1.2"] in lines
    assert ["conv1.width", "width", "16", "24", "conv1"] in lines
    assert [line[0] for line in lines[-2:]] == ["largest", "smallest"]


@pytest.mark.parametrize("words", [["subnet", "A"], ["A"]])
def test_a_subnet(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, *words)
    assert ["conv1.width", "16", "24"] in lines
    assert ["layer3.depth", "1", "1"] in lines


def test_the_ends_of_the_space_and_the_original_are_subnets_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert ["conv1.width", "24", "24"] in shown(capsys, "subnet", "reference")
    assert ["conv1.width", "24", "24"] in shown(capsys, "largest")
    assert ["layer3.depth", "0", "1"] in [line[:3] for line in shown(capsys, "smallest")]


def test_a_diff_lists_what_differs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "diff", "A", "largest")
    assert lines[:2] == [["choice", "A", "largest", "of"], ["conv1.width", "16", "24", "24"]]
    assert lines[3][:5] == ["1", "of", "14", "choices", "differ"]
    assert shown(capsys, "diff", "reference", "largest")[0] == ["the", "same", "subnet"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["diff", "A"], "show diff: which two subnets? as in: python -m bnas show diff A B"),
        (["subnet"], "show subnet: which one? as in: python -m bnas show subnet A"),
        (["subnet", "A", "B"], "show subnet: which one? as in: python -m bnas show subnet A"),
        (["subnet", "B"], "runs/tiny_resnet has no subnet 'B'; known: A, largest, reference, smallest"),
        (["diff", "A", "smalest"], "runs/tiny_resnet has no subnet 'smalest'; did you mean 'smallest'?"),
        (["spce"], "show: nothing called 'spce' in runs/tiny_resnet; did you mean 'space'?"),
        (["space", "A"], "show space: one word expected, got also 'A'"),
    ],
)
def test_what_is_not_there(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, *words) == text
