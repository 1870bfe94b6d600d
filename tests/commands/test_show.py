"""`bnas show` on a run that is built, and has one subnet."""

from __future__ import annotations

import importlib
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from bnas.__main__ import main
from bnas.commands.extract import SubnetFile
from bnas.files import read_json, write_json
from bnas.plain import to_plain
from bnas.space import SearchSpace, SubnetConfig
from bnas.train.curves import HISTORY, Point


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


def history(run: Path, training: str, *points: Point) -> Path:
    """The curves of a training that told these points."""
    folder = run / "tensorboard" / training
    folder.mkdir(parents=True)
    lines = (json.dumps(to_plain(point)) for point in points)
    (folder / HISTORY).write_text("".join(f"{line}\n" for line in lines))
    return folder / HISTORY


@pytest.fixture
def trained(home: Path) -> Iterator[Path]:
    """The run with a pretraining that is done, and a training of two stages that goes on."""
    run = home / "runs" / "tiny_resnet"
    history(
        run,
        "pretrain",
        Point(step=9, values={"loss": 2.0}),
        Point(step=10, values={"top1_percent/network": 90}),
    )
    path = history(
        run,
        "train",
        Point(step=9, values={"loss": 2.5, "lr": 0.1}),
        Point(step=9, drawn={"macs": (1e6, 4e6)}),
        Point(step=10, values={"top1_percent/largest": 91.5, "top1_percent/smallest": 88.0, "stage": 0}),
        Point(step=20, values={"loss": 0.5, "lr": 0.2}),
        Point(step=21, values={"loss": float("nan"), "lr": 0.2}),
        Point(step=22, values={"top1_percent/largest": 91.0, "top1_percent/smallest": 89.0, "stage": 1}),
    )
    with open(path, "a") as file:
        file.write('{"step":30,"val')  # a line that is being written
    yield run
    shutil.rmtree(run / "tensorboard")
    (run / "training.html").unlink(missing_ok=True)


def test_the_curves_of_the_trainings(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "train")
    names = [
        name
        for name, _ in itertools.groupby(line[0] for line in lines if line)
        if name in ("pretrain", "train")
    ]
    assert names == ["pretrain", "train"]
    assert ["top1_percent/network", "1", "90", "90", "90", "10"] in lines
    assert ["loss", "2", "2.5", "0.5", "0.5", "20"] in lines
    assert ["lr", "3", "0.1", "0.2", "–", "–"] in lines
    assert ["top1_percent/largest", "2", "91.5", "91", "91.5", "10"] in lines
    title = "train · to step 22 · depth to 10 · depth-width to 22 · 1.00 M to 4.00 M MACs in"
    assert title in (" ".join(line) for line in lines)
    assert lines[-1] == ["all", "curves", "→", "runs/tiny_resnet/training.html"]
    page = (trained / "training.html").read_text()
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    assert [figure["data"][0]["y"] for figure in figures.values()][:2] == [[2.5, 0.5], [0.1, 0.2, 0.2]]
    assert "tiny_resnet · training" in page


def test_the_curves_without_plotly(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = importlib.import_module

    def without_plotly(name: str, package: str | None = None) -> ModuleType:
        if name.startswith("plotly"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="plotly")
        return usual(name, package)

    monkeypatch.setattr(importlib, "import_module", without_plotly)
    lines = shown(capsys, "train")
    assert ["loss", "2", "2.5", "0.5", "0.5", "20"] in lines
    told = "no page of them was written: plotly is not installed; install it with: pip install 'bnas[report]'"
    assert " ".join(lines[-1]) == told
    assert not (trained / "training.html").exists()


def test_a_damaged_history_is_one_clear_error(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = trained / "tensorboard" / "train" / HISTORY
    path.write_text("not JSON\n" + path.read_text())
    assert "tensorboard/train/history.jsonl is damaged in line 1" in refused(capsys, "train")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["diff", "A"], "show diff: which two subnets? as in: python -m bnas show diff A B"),
        (["subnet"], "show subnet: which one? as in: python -m bnas show subnet A"),
        (["subnet", "A", "B"], "show subnet: which one? as in: python -m bnas show subnet A"),
        (["subnet", "B"], "runs/tiny_resnet has no subnet 'B'; known: A, largest, reference, smallest"),
        (["diff", "A", "smalest"], "runs/tiny_resnet has no subnet 'smalest'; did you mean 'smallest'?"),
        (["spce"], "show: nothing called 'spce' in runs/tiny_resnet; did you mean 'space'?"),
        (["train"], "runs/tiny_resnet has no curves of a training yet; first: python -m bnas train"),
        (["train", "A"], "show train: one word expected, got also 'A'"),
        (["space", "A"], "show space: one word expected, got also 'A'"),
    ],
)
def test_what_is_not_there(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, *words) == text
