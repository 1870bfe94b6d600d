from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import PRETRAIN, TRAIN, run, toy_data, toy_images, toy_net, toy_supernet

from bnas.data import ImageSplits
from bnas.errors import DataError, ModelError, RunError
from bnas.train import Stage, TrainConfig, loop, pretrain, train
from bnas.train.step import Stepped, train_step

# 70 images in batches of 16 make 4 steps an epoch: 10 steps of pretraining; two stages of 6 of training
STEPS = {"pretrain": 10, "train": 12}
NEVER, ALWAYS = 1e9, 0.0


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, dict[str, Tensor]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    weights = {what: run(what, None) for what in STEPS}
    torch.set_num_threads(threads)
    return weights


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Killed(Exception):
    pass


def at_step(number: int, act: Callable[[], None], *, after: bool) -> Callable[..., Stepped]:
    """A `train_step` that calls `act` in the step with this number, before or after its work."""
    count = 0

    def step(*args: Any) -> Stepped:
        nonlocal count
        count += 1
        if count - 1 == number and not after:
            act()
        made = train_step(*args)
        if count - 1 == number and after:
            act()
        return made

    return step


def kill() -> None:
    raise Killed


@pytest.mark.parametrize("what", ["pretrain", "train"])
def test_the_same_seed_gives_the_same_weights(
    what: str, undisturbed: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    torch.manual_seed(123)  # the state of the global generator must not matter
    assert same(run(what, tmp_path, seconds=ALWAYS), undisturbed[what])
    state = toy_net().state_dict()
    assert not torch.equal(undisturbed[what]["head.weight"], state["head.weight"])


@pytest.mark.parametrize(
    ("what", "seconds", "number", "after"),
    [
        ("pretrain", ALWAYS, 0, False),
        ("pretrain", ALWAYS, 5, True),
        ("pretrain", NEVER, 7, False),
        ("train", ALWAYS, 3, False),
        ("train", ALWAYS, 5, True),
        ("train", ALWAYS, 6, False),  # the second stage has reordered the channels, and done no step
        ("train", ALWAYS, 9, True),
        ("train", NEVER, 8, True),
    ],
)
def test_killed_and_run_again_gives_bit_identical_weights(
    what: str,
    seconds: float,
    number: int,
    after: bool,
    undisturbed: dict[str, dict[str, Tensor]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "train_step", at_step(number, kill, after=after))
    with pytest.raises(Killed):
        run(what, tmp_path, seconds=seconds)
    counted: list[None] = []
    monkeypatch.setattr(loop, "train_step", lambda *args: counted.append(None) or train_step(*args))
    assert same(run(what, tmp_path, seconds=seconds), undisturbed[what])
    first = number if seconds == ALWAYS else (6 if what == "train" and number >= 6 else 0)
    assert len(counted) == STEPS[what] - first  # it went on, and did not begin again
    counted.clear()
    assert same(run(what, tmp_path, seconds=seconds), undisturbed[what])
    assert not counted  # what is finished stays so


def test_sigkill_gives_bit_identical_weights(
    undisturbed: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    folder, root = tmp_path / "checkpoints", str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("toy.py")), "train", str(folder), "0"],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
    )
    until = time.monotonic() + 60
    while not list(folder.glob("01-00000002-*.pt")):  # the second of the second stage's six steps
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < until, "no checkpoint appeared"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert same(run("train", folder, seconds=ALWAYS), undisturbed["train"])


def test_ctrl_c_finishes_the_step_and_its_checkpoint(
    undisturbed: dict[str, dict[str, Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    press = at_step(7, lambda: os.kill(os.getpid(), signal.SIGINT), after=False)
    monkeypatch.setattr(loop, "train_step", press)
    with pytest.raises(KeyboardInterrupt):
        run("train", tmp_path, seconds=NEVER)
    newest = max(path.name for path in tmp_path.glob("0*.pt"))
    assert newest.startswith("01-00000002-")  # step 7 was the second's 1
    monkeypatch.setattr(loop, "train_step", train_step)
    assert same(run("train", tmp_path, seconds=NEVER), undisturbed["train"])


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    undisturbed: dict[str, dict[str, Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "train_step", at_step(9, kill, after=False))
    with pytest.raises(Killed):
        run("train", tmp_path, seconds=ALWAYS)
    newest = max(tmp_path.glob("0*.pt"))
    newest.write_bytes(newest.read_bytes()[:5000])
    monkeypatch.setattr(loop, "train_step", train_step)
    assert same(run("train", tmp_path, seconds=ALWAYS), undisturbed["train"])


def test_channels_are_reordered_once_at_the_stage_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnas.train import learners

    calls: list[None] = []
    reorder = learners.reorder_channels
    monkeypatch.setattr(learners, "reorder_channels", lambda *own: calls.append(None) or reorder(*own))
    monkeypatch.setattr(loop, "train_step", at_step(8, kill, after=False))
    with pytest.raises(Killed):
        run("train", tmp_path, seconds=NEVER)
    assert len(calls) == 1
    monkeypatch.setattr(loop, "train_step", train_step)
    run("train", tmp_path, seconds=NEVER)
    assert len(calls) == 1


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_stops_and_is_never_saved(bad: float, tmp_path: Path) -> None:
    data = toy_data()
    images = toy_images(70, 1)
    images.x[33] = bad  # one image, met once an epoch
    supernet = toy_supernet()
    config = replace(TRAIN, checkpoint_seconds=ALWAYS, precision="float32")
    with pytest.raises(ModelError) as caught:
        train(supernet, replace(data, train=images), config, seed=0, checkpoint=tmp_path)
    message = str(caught.value)
    for part in ("stage 'depth', step ", " of 6: the loss is nan in subnet ", "last good checkpoint: "):
        assert part in message
    for path in tmp_path.iterdir():
        state = torch.load(path, weights_only=True)
        assert all(bool(value.isfinite().all()) for value in state["model"].values())
        assert str(path) in message or path != max(tmp_path.glob("0*.pt"))


def train_toy(config: TrainConfig, folder: Path | None) -> dict[str, Tensor]:
    supernet = toy_supernet()
    train(supernet, toy_data(), config, seed=3, checkpoint=folder, teacher=toy_net())
    return supernet.model.state_dict()


EVERYTHING = {
    "everything": {
        "optimizer": "adamw",
        "ema_decay": 0.9,
        "accumulate": 2,
        "mixup": 0.2,
        "cutmix": 1.0,
        "recompute": True,
        "evaluate_epochs": 0.5,
        "patience": 3,
        "watch": 1,
        "teacher": "largest",
        "divergence": "alpha",
        "dropout": "largest",
        "stages": (
            Stage(name="depth", dims={"depth": 0}, epochs=1, lr=0.01, sampling="largest", subnets_per_step=2),
            Stage(
                name="all",
                dims={"depth": 0, "width": 0},
                steps=6,
                warmup_steps=2,
                lr=0.01,
                optimizer="rmsprop",
                sampling="best_up",
                subnets_per_step=3,
                reorder=True,
            ),
        ),
    },
    "float16": {"precision": "float16", "clip_norm": 1.0, "ema_decay": 0.8},
}


@pytest.mark.parametrize("options", EVERYTHING.values(), ids=EVERYTHING)
def test_every_part_of_the_state_is_resumed(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(TRAIN, checkpoint_seconds=ALWAYS, **options)
    expected = train_toy(config, None)
    number = 0
    while number < 12:
        monkeypatch.setattr(loop, "train_step", at_step(2, kill, after=number % 2 == 0))
        try:
            made = train_toy(config, tmp_path)
            break
        except Killed:
            number += 1
    assert number >= 3
    assert same(made, expected)


def test_a_stage_ends_early_when_no_evaluation_is_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = (Stage(name="still", steps=40, lr=1e-12),)
    config = replace(
        TRAIN, stages=stages, evaluate_epochs=0.5, patience=2, weight_decay=0.0, checkpoint_seconds=NEVER
    )
    counted: list[None] = []
    monkeypatch.setattr(loop, "train_step", lambda *args: counted.append(None) or train_step(*args))
    train_toy(config, tmp_path)
    assert len(counted) == 6  # evaluated after 2, 4 and 6 steps: the first is the best, two are no better
    assert any(path.name.startswith("best-00-00000002-") for path in tmp_path.iterdir())
    counted.clear()
    train_toy(config, tmp_path)
    assert not counted


def test_a_stage_ends_with_the_moving_average(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed here by hand from the weights after each step."""
    stages = (Stage(name="s", steps=5, lr=0.05),)
    seen: list[dict[str, Tensor]] = []

    def watched(learner: Any, *args: Any) -> Stepped:
        if not seen:
            seen.append({name: p.detach().clone() for name, p in learner.model.named_parameters()})
        made = train_step(learner, *args)
        seen.append({name: p.detach().clone() for name, p in learner.model.named_parameters()})
        return made

    monkeypatch.setattr(loop, "train_step", watched)
    final = train_toy(replace(TRAIN, stages=stages, ema_decay=0.3), None)
    for name, first in seen[0].items():
        average = first.double()
        for step, own in enumerate(seen[1:], 1):
            decay = min(0.3, step / (9 + step))
            average = decay * average + (1 - decay) * own[name].double()
        torch.testing.assert_close(final[name].double(), average, rtol=1e-5, atol=1e-7)


def test_changed_settings_are_refused(tmp_path: Path) -> None:
    data = toy_data()
    pretrain(toy_net(), data, PRETRAIN, seed=7, checkpoint=tmp_path)
    with pytest.raises(RunError, match=r"pretrain\.lr was 0\.05, is 0\.1"):
        pretrain(toy_net(), data, replace(PRETRAIN, lr=0.1), seed=7, checkpoint=tmp_path)
    with pytest.raises(RunError, match="seed was 7, is 8"):
        pretrain(toy_net(), data, PRETRAIN, seed=8, checkpoint=tmp_path)
    with pytest.raises(RunError, match="model was "):
        pretrain(type(toy_net())(classes=5), data, PRETRAIN, seed=7, checkpoint=tmp_path)
    pretrain(toy_net(), data, replace(PRETRAIN, checkpoint_seconds=3.0), seed=7, checkpoint=tmp_path)


def test_too_few_images_are_an_error() -> None:
    data = ImageSplits(name="few", train=toy_images(1, 1), val=toy_images(4, 2), test=toy_images(4, 3))
    with pytest.raises(DataError, match="1 images; at least 2"):
        pretrain(toy_net(), data, PRETRAIN, seed=0)


def test_the_model_is_handed_back_contiguous_in_eval_mode_and_the_global_generator_untouched() -> None:
    model = toy_net()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pretrain(model, toy_data(), replace(PRETRAIN, epochs=0.5), seed=0)
    assert torch.equal(torch.rand(3), expected)
    assert all(not module.training for module in model.modules())
    assert all(tensor.is_contiguous() for tensor in model.state_dict().values())
