"""`torchrun -m bnas …` with two processes: the files and curves of one process, however it was cut short."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mini import MINI, bnas
from safetensors.torch import load_file
from torch import Tensor

from bnas import __main__ as main_module
from bnas.train.curves import read_history

HERE = str(Path(__file__).parent)
OPTIONS = (
    *(own for own in MINI if not own.startswith(("model.", "pretrain", "train", "data.train"))),
    "model=smooth:make",
    "plugins=[halting]",
    "data.train_images=200",
    "pretrain={epochs: 1, warmup_epochs: 0, batch_size: 20, checkpoint_seconds: 0, precision: float32}",
    "train={batch_size: 20, checkpoint_seconds: 0, recalibrate_images: 100, precision: float32, stages: ["
    "{name: depth, dims: {depth: 0}, epochs: 2, lr: 0.05}, "
    "{name: depth-width, dims: {depth: 0, width: 0}, epochs: 2, lr: 0.05, reorder: true, "
    "sampling: sandwich, subnets_per_step: 3}]}",
)
STEPS = 10 + 20 + 20  # of pretraining and of the two stages
# Sums over a batch are rounded in another order when it is in two parts: 1e-7 a step, which grows to 1.5e-5 in
# 50 steps. Statistics or gradients of half of the images would make 1e-1 of it.
TOLERANCE = 2e-4


def torchrun(*words: str, cwd: Path, halt: str = "0:", restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """`torchrun --nproc-per-node=2 -m bnas …` in `cwd`."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    launcher.append(f"--max-restarts={restarts}")
    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GLOO_SOCKET_IFNAME": "lo"}
    environment |= {"PYTHONPATH": f"{HERE}:{Path(HERE).parents[1]}", "HALT": halt}
    return subprocess.run(
        [*launcher, "-m", "bnas", *words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def weights(folder: Path) -> dict[str, Tensor]:
    files = sorted((folder / "runs/mini/weights").glob("*.safetensors"))
    assert [file.stem for file in files] == ["pretrained", "supernet"]
    return {f"{file.stem}/{name}": value for file in files for name, value in load_file(file).items()}


def difference(a: Tensor, b: Tensor) -> float:
    """Largest difference of two tensors, as a share of the largest value of both."""
    a, b = a.double(), b.double()
    return float((a - b).abs().max() / max(1e-3, float(a.abs().max()), float(b.abs().max())))


def losses(folder: Path, what: str) -> dict[int, float]:
    points = read_history(folder / "runs/mini/tensorboard" / what)
    return {point.step: point.values["loss"] for point in points if "loss" in point.values}


def steps_done(folder: Path) -> int:
    """Steps of the newest checkpoint, those of the stages before it included."""
    files = (folder / "runs/mini/checkpoints/train").glob("[0-9]*-[0-9]*-*.pt")
    stage, step = max(tuple(map(int, file.name.split("-")[:2])) for file in files)
    return (10, 30, 50)[stage] + step


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    done = bnas("train", *OPTIONS, cwd=folder, PYTHONPATH=HERE)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that two processes began, and one and two went on with, all but the last of them cut short."""
    folder = tmp_path_factory.mktemp("together")
    failed = torchrun("train", *OPTIONS, cwd=folder, halt="4:fail")
    assert failed.returncode != 0
    assert "process 1: bnas: error: /images/7.png: not readable here" in failed.stderr
    assert failed.stderr.count("bnas: error: /images") == 1
    interrupted = torchrun("train", *OPTIONS, cwd=folder, halt="15:interrupt")
    assert interrupted.returncode != 0
    assert interrupted.stderr.count("stopped; the same command goes on from here") == 1
    reached = steps_done(folder)
    assert 15 <= reached < 30
    killed = torchrun("train", *OPTIONS, cwd=folder, halt="7:kill")
    assert killed.returncode != 0
    assert steps_done(folder) == reached + 6  # of its seventh step there is no checkpoint
    killed = bnas("train", *OPTIONS, cwd=folder, PYTHONPATH=HERE, HALT="9:kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert steps_done(folder) == reached + 14
    done = torchrun("train", *OPTIONS, cwd=folder, halt="3:kill", restarts=1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("train: super-network trained") == 1  # one process speaks
    return folder


def test_weights_are_those_of_one_process(alone: Path, together: Path) -> None:
    one, two = weights(alone), weights(together)
    assert one.keys() == two.keys()
    differences = {name: difference(one[name], two[name]) for name in one}
    assert max(differences.values()) < TOLERANCE, str(differences)
    trained = [name for name in one if name.startswith("supernet/") and name.endswith("weight")]
    assert trained
    assert any(
        difference(one[name], one[name.replace("supernet", "pretrained")]) > 100 * TOLERANCE
        for name in trained
        if name.replace("supernet", "pretrained") in one
    )


def test_the_curve_of_losses_is_that_of_one_process(alone: Path, together: Path) -> None:
    for what, points in (("pretrain", 1), ("train", 4)):
        one, two = losses(alone, what), losses(together, what)
        assert one.keys() == two.keys()
        assert len(one) == points
        assert all(abs(one[step] - two[step]) < TOLERANCE for step in one)


def test_one_process_writes(alone: Path, together: Path) -> None:
    def names(folder: Path) -> set[str]:
        paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return {str(path) for path in paths if path.suffix not in (".pt",) and "tfevents" not in path.name}

    assert names(together) == names(alone)
    ledger = json.loads((together / "runs/mini/stages.json").read_text())
    assert [record["stage"] for record in ledger] == ["build", "pretrain", "train"]


def test_a_bad_option_is_one_error(tmp_path: Path) -> None:
    result = torchrun("train", *OPTIONS, "train.batch_sise=3", cwd=tmp_path)
    assert result.returncode != 0
    assert result.stderr.count("bnas: error: ") == 1
    assert "bnas: error: train.batch_sise: no such option; did you mean 'batch_size'?" in result.stderr
    assert "exitcode  : 2" in result.stderr  # as torchrun reports it; its own is always 1


def test_a_batch_that_two_cannot_share_is_one_error(tmp_path: Path) -> None:
    result = torchrun("pretrain", *OPTIONS, "pretrain.batch_size=25", cwd=tmp_path)
    assert result.returncode != 0
    assert result.stderr.count("bnas: error: ") == 1
    assert "batch_size: must be a multiple of the number of processes (2), such as 24" in result.stderr


@pytest.mark.parametrize("words", ["show", "--version", "--help", "nonsense", "train --help", "--nonsense"])
def test_a_follower_leaves_other_commands_alone(
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main_module.main(words.split()) == (2 if words == "--nonsense" else 0)
    assert capsys.readouterr() == ("", "")
