"""`bnas build` on models without data, on models of the user's own, and with spaces of the user's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bnas.__main__ import main
from bnas.files import read_json
from bnas.graph import ChannelGraph
from bnas.space import SearchSpace

OWN = """
import torch
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 16)
        self.inner = nn.Linear(16, 32)
        self.out = nn.Linear(32, 2)

    def forward(self, tokens, weights):
        return {"scores": self.out(torch.relu(self.inner(self.embed(tokens) * weights[..., None])))}

def make():
    return Two()

def inputs():
    return {"tokens": torch.randint(11, (1, 5)), "weights": torch.ones(1, 5)}

class Stubborn(nn.Module):
    # its second layer checks the width in Python, where no trace can see it
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 16), nn.Linear(16, 24), nn.Linear(24, 2)

    def forward(self, x):
        x = self.second(self.first(x))
        if x.shape[-1] != 24:
            raise RuntimeError("24 features expected")
        return self.third(x)

    def example_inputs(self):
        return torch.ones(1, 4)

def scripted():
    return torch.jit.script(nn.Linear(4, 2))

def unwilling():
    return nn.Conv2d(5, 3, 1)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_builds_for_test.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_builds_for_test", raising=False)
    return tmp_path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command line that succeeds prints."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        status = main(list(arguments))
        printed = capsys.readouterr()
        assert status == 0, printed.err
        return printed.out

    return run


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line.removeprefix("bnas: error: ")


def test_a_name_is_enough(home: Path, said: Callable[..., str]) -> None:
    printed = said("build", "model=resnet18", "model.shape=[3,32,32]", "model.num_classes=4")
    run = home / "runs" / "resnet18"
    graph = read_json(run / "graph.json", ChannelGraph)
    assert graph.input_shapes == ((1, 3, 32, 32),)
    assert graph.group_by_name["fc"].channels == 4
    assert printed.splitlines()[0] == "resnet18"
    assert "○ fc" in printed
    assert f"{len(read_json(run / 'space.json', SearchSpace).choices)} choices, 10^" in printed
    assert "→ runs/resnet18/build.html" in printed
    assert (run / "build.html").read_text().startswith("<!DOCTYPE html>")


def test_a_detector_and_a_video_network(home: Path, said: Callable[..., str]) -> None:
    said("build", "model=retinanet_resnet50_fpn", "model.shape=[3,64,64]", "space.random_subnets=0")
    assert (home / "runs" / "retinanet_resnet50_fpn" / "space.json").is_file()
    said("build", "model=mc3_18", "model.shape=[3,4,32,32]", "space.random_subnets=0")
    graph = read_json(home / "runs" / "mc3_18" / "graph.json", ChannelGraph)
    assert graph.input_shapes == ((1, 3, 4, 32, 32),)


def test_a_model_of_ones_own_with_several_inputs(home: Path, said: Callable[..., str]) -> None:
    printed = said("build", "model=own_builds_for_test:make", "model.inputs=own_builds_for_test:inputs")
    run = home / "runs" / "own_builds_for_test.make"
    space = read_json(run / "space.json", SearchSpace)
    assert [(choice.name, choice.values) for choice in space.choices] == [
        ("embed.width", (8, 16)),
        ("inner.width", (16, 24, 32)),
    ]
    assert "● inner" in printed
    assert said("show", "space") == said("show", "space", "model=own_builds_for_test:make",
                                         "model.inputs=own_builds_for_test:inputs")  # fmt: skip


def test_a_conf_may_say_it_too(home: Path, said: Callable[..., str]) -> None:
    said("build", "conf=build", "model=tiny_resnet", "name=mine", "space.width_ratios=[0.5]")
    assert {path.name for path in (home / "runs").iterdir()} == {"mine"}
    assert "smallest" in said("show", "space", "runs=runs")


def test_what_does_not_run_is_frozen_and_told(home: Path, said: Callable[..., str]) -> None:
    printed = said("build", "model=own_builds_for_test:Stubborn")
    space = read_json(home / "runs" / "own_builds_for_test.Stubborn" / "space.json", SearchSpace)
    assert [choice.name for choice in space.choices] == ["first.width"]
    assert "left out: second.width, the model does not run with it: " in printed
    assert "24 features expected" in printed
    (line,) = [line for line in printed.splitlines() if "○ second" in line]
    assert "frozen: another width does not run: " in line
    assert "24 features expected" in (home / "runs/own_builds_for_test.Stubborn/build.html").read_text()


def test_a_space_of_ones_own_is_taken(home: Path, said: Callable[..., str]) -> None:
    said("build", "model=tiny_resnet")
    path = home / "runs" / "tiny_resnet" / "space.json"
    data = json.loads(path.read_text())
    data["choices"] = [choice for choice in data["choices"] if choice["name"] == "conv1.width"]
    data["choices"][0]["values"] = [20, 24]
    (home / "mine.json").write_text(json.dumps(data))
    said("build", "model=tiny_resnet", "space.file=mine.json", "name=mine")
    built = read_json(home / "runs" / "mine" / "space.json", SearchSpace)
    assert [choice.values for choice in built.choices] == [(20, 24)]
    assert "done before" in said("build", "model=tiny_resnet", "space.file=mine.json", "name=mine")


def test_a_space_that_was_edited_is_built_again_only_when_forced(
    home: Path, said: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("build", "model=tiny_resnet", "space.file=mine.json", "name=mine")
    choice = {"name": "conv1.width", "dim": "width", "values": [20, 24], "targets": ["conv1"]}
    (home / "mine.json").write_text(json.dumps({"choices": [choice]}))
    said(*words)
    (home / "mine.json").write_text(json.dumps({"choices": [choice | {"values": [12, 24]}]}))
    assert "mine.json was edited" in refused(capsys, *words)
    said(*words, "--force")
    assert read_json(home / "runs/mine/space.json", SearchSpace).choices[0].values == (12, 24)


def test_a_space_that_does_not_fit_is_refused_with_all_its_problems(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choices = [
        {"name": "a", "dim": "width", "values": [20, 25], "targets": ["conv1"]},
        {"name": "b", "dim": "depth", "values": [0, 1], "targets": ["layer9.0"]},
    ]
    (home / "mine.json").write_text(json.dumps({"choices": choices}))
    text = refused(capsys, "build", "model=tiny_resnet", "space.file=mine.json")
    assert text.startswith("mine.json: the search space does not fit the model: a: ")
    assert "layer9.0" in text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["model=resnet51"], "model.name: no model 'resnet51'; did you mean 'resnet50'?"),
        (["conf=build"], "model.name: must be given"),
        (["model=tiny_resnet", "space.file=none.json"], "none.json"),
        (["model=tiny_resnet", "model.shape=[0]"], "model.shape: expected positive sizes"),
        (
            ["model=tiny_resnet", "space.random_subnets=-1"],
            "space.random_subnets: expected at least 0, got -1",
        ),
        (["model=resnet18", "model.shape=[1,32,32]"], "model.shape=[3,HEIGHT,WIDTH]"),
        (["model=own_builds_for_test:nothing"], "cannot import 'own_builds_for_test:nothing'"),
        (["model=own_builds_for_test:make"], "Two does not run on inputs of shape [1, 3, 224, 224]: "),
        (
            ["model=own_builds_for_test:unwilling"],
            "Conv2d does not run on inputs of shape [1, 3, 224, 224]: ",
        ),
        (
            ["conf=quickstart", "model=tiny_resnet", "model.num_classes=3"],
            "model.num_classes: 3, but data=embedded has 10; leave it out",
        ),
    ],
)
def test_mistakes_get_one_line(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert text in refused(capsys, "build", *words)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_a_scripted_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(capsys, "build", "model=own_builds_for_test:scripted", "model.shape=[3,4,4]")
    assert text == (
        "RecursiveScriptModule is a TorchScript module: give the module that was scripted or traced"
    )


def test_what_comes_after_needs_data(said: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    said("build", "model=tiny_resnet")
    text = refused(capsys, "pretrain", "model=tiny_resnet")
    assert text == "data: this run has none; give it some, as in data=embedded"
