"""`bnas finetune`: what is trained, what is kept, and what it leaves alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mini import MINI
from safetensors.torch import load_file
from torch import nn

from bnas import rebuild
from bnas.__main__ import main
from bnas.commands import finetune as command
from bnas.commands.decision import Decision
from bnas.commands.extract import load_subnet
from bnas.commands.invocation import Invocation
from bnas.commands.project import Project, open_project, open_run
from bnas.commands.stages import STAGES, _inputs
from bnas.files import read_json, write_json
from bnas.plain import digest
from bnas.report.types import Finetuned, Verified
from bnas.search import ParetoFront
from bnas.search.front import Box
from bnas.train import evaluate, finetune

OPTIONS = (
    *(option for option in MINI if not option.startswith(("pretrain=", "train="))),
    "pretrain={epochs: 1, warmup_epochs: 0, batch_size: 50, precision: float32}",
    "train={batch_size: 50, recalibrate_images: 100, precision: float32, stages: ["
    "{name: all, dims: {depth: 0, width: 0}, epochs: 1, lr: 0.05}]}",
)
SHORT = ("finetune.epochs=1", "finetune.batch_size=50", "finetune.lr=0.05", "finetune.precision=float32")
MADE_LATER = ("quantize", "export", "verify", "report")


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the subnets A and B; nothing was measured, and what they were chosen by is made up."""
    folder = tmp_path_factory.mktemp("extracted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *OPTIONS]) == 0
        project = open_project(Invocation(command="extract"))
        space = project.space
        told = Verified(
            config=space.largest, metric_fp32_percent=0.0, metric_int8_percent=0.0, latency_ms=1.0,
            predicted_latency_ms=1.0, macs=1, parameters=1,
        )  # fmt: skip
        front = ParetoFront(
            objectives=(), members=(), evaluations=(), hypervolume=(), hypervolume_box=Box(ideal=(), nadir=())
        )
        chosen = {"A": space.largest, "B": space.smallest}
        decision = Decision(front=front, reference=told, members=(), chosen=chosen, notes=())
        write_json(project.folder.path("search", "cpu", "front.json"), decision)
        for stage in ("measure", "search"):
            done(project, stage, f"{stage}@cpu", made=("search/cpu/front.json",))
        assert main(["extract"]) == 0
    return folder


def done(project: Project, stage: str, key: str, made: tuple[str, ...] = ()) -> None:
    """Enter a stage in the ledger as if it had been done."""
    project.folder.finish(key, _inputs(project, STAGES[stage]), made, "made up", 0.0)
    begun = project.folder.path("begun.json")
    write_json(begun, {**yaml.safe_load(begun.read_text()), key: _inputs(project, STAGES[stage])})


@pytest.fixture
def run(extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run, whose folder is the newest below the current one."""
    shutil.copytree(extracted, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("runs/mini")


def top1(project: Project, module: nn.Module) -> float:
    return evaluate(module, project.data.val)


def test_nothing_is_done_unless_it_is_asked_for(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = open_project(Invocation(command="quantize"))
    for stage in MADE_LATER:
        done(project, stage, stage)  # as in a run that an older bnas made, which had no such stage
    assert main(["finetune"]) == 0
    assert "finetune: none was asked for (finetune.epochs=0)" in capsys.readouterr().out
    assert not list(run.rglob("finetuned.safetensors"))
    assert not (run / "checkpoints/finetune").exists()
    for stage in MADE_LATER:  # what was made stays
        assert main([stage]) == 0
        assert f"{stage}: done before: made up" in capsys.readouterr().out


def test_without_it_later_stages_depend_on_what_they_did_before(run: Path) -> None:
    project = open_project(Invocation(command="quantize"))
    inputs = _inputs(project, STAGES["extract"])
    options = {"quantize": project.config.quantize}
    assert _inputs(project, STAGES["quantize"]) == digest({"options": options, "after": [inputs]})
    asked = open_project(Invocation(command="quantize", overrides=SHORT))
    assert _inputs(asked, STAGES["extract"]) == inputs
    assert _inputs(asked, STAGES["quantize"]) != _inputs(project, STAGES["quantize"])


def test_the_recipe_trains_each_subnet_and_keeps_the_better(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["finetune"]) == 0
    for stage in MADE_LATER:
        done(open_project(Invocation(command=stage)), stage, stage)
    section = yaml.safe_load((run / "config.yaml").read_text())["train"]
    assert main(["finetune", "train=finetune", *SHORT]) == 0
    out = capsys.readouterr().out
    project = open_run(run)
    for name in ("A", "B"):
        folder = run / "subnets" / name
        before, after = rebuild(folder, tuned=False), rebuild(folder, tuned=False)
        finetune(after, project.data, project.config.finetune, seed=0, teacher=project.original())
        accuracies = top1(project, before), top1(project, after)
        assert f"{name}: top-1 {accuracies[0]:.2f} % as extracted, {accuracies[1]:.2f} % fine-tuned" in out
        best = after if accuracies[1] > accuracies[0] else before
        told = read_json(folder / "finetuned.json", Finetuned)
        assert (told.before, told.after, told.kept) == (*accuracies, best is after)
        assert told.images == len(project.data.val)
        assert (folder / "finetuned.safetensors").exists() == (best is after)
        for key, value in load_subnet(project, name).state_dict().items():
            assert torch.equal(value, best.state_dict()[key]), key
        assert list((run / "checkpoints/finetune" / name).iterdir())
        assert list((run / "tensorboard/finetune" / name).glob("events.out.tfevents.*"))
    assert (run / "subnets/B/finetuned.safetensors").exists()  # the smallest has most to gain
    assert not (run / "checkpoints/finetune/reference").exists()
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["train"] == section
    assert config["finetune"]["epochs"] == 1
    assert config["finetune"]["label_smoothing"] == 0.1  # from the recipe
    for stage in ("train", "extract", "finetune"):
        assert main([stage]) == 0
        assert f"{stage}: done before" in capsys.readouterr().out
    assert not any(project.folder.done(stage) for stage in MADE_LATER)  # of other weights
    assert main(["show", "run"]) == 0
    assert "finetune" in capsys.readouterr().out
    assert main(["finetune", "finetune.epochs=2"]) == 2
    assert "'finetune' was done with other options (finetune.epochs: 1 → 2)" in capsys.readouterr().err


def ruined(module: nn.Module, *_: Any, **__: Any) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()


def test_what_became_worse_is_left_as_it_was(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "subnets/A/finetuned.safetensors").write_text("of another training")
    monkeypatch.setattr(command, "train_subnet", ruined)
    assert main(["finetune", *SHORT]) == 0
    assert "(left as it was)" in capsys.readouterr().out
    assert not list(run.rglob("finetuned.safetensors"))
    assert not read_json(run / "subnets/A/finetuned.json", Finetuned).kept
    weights = load_file(run / "subnets/A/weights.safetensors")
    for key, value in load_subnet(open_run(run), "A").state_dict().items():
        assert torch.equal(value, weights[key])


def test_the_subnets_that_are_named_and_the_largest_as_teacher(run: Path) -> None:
    assert main(["finetune", *SHORT, "finetune.subnets=[reference,B]", "finetune.teacher=largest"]) == 0
    assert {path.name for path in (run / "checkpoints/finetune").iterdir()} == {"reference", "B"}


def test_a_wrong_name_is_one_clear_error(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", *SHORT, "finetune.subnets=[A,referense]"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "finetune.subnets: runs/mini has no subnet 'referense'; did you mean 'reference'?" in err
    assert not (run / "checkpoints/finetune").exists()
    project = open_run(run)
    assert project.folder.done("finetune") is None


def test_it_needs_the_subnets(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_run(run).folder.forget("extract")
    assert main(["finetune", *SHORT]) == 2
    assert "first: python -m bnas extract" in capsys.readouterr().err
