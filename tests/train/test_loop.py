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
from torch import Tensor, nn
from toy import PRETRAIN, TRAIN, run, toy_data, toy_images, toy_net, toy_supernet

from bnas.data import ImageSplits
from bnas.errors import DataError, ModelError, RunError
from bnas.space import SubnetConfig
from bnas.supernet import Supernet
from bnas.train import TrainConfig, loop, pretrain, train
from bnas.train.loop import make_optimizer, train_step, training_batches
from bnas.train.stages import Stage

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


def at_step(number: int, act: Callable[[], None], *, after: bool) -> Callable[..., float]:
    """A `train_step` that calls `act` in the step with this number, before or after its work."""
    count = 0

    def step(*args: Any) -> float:
        nonlocal count
        count += 1
        if count - 1 == number and not after:
            act()
        loss = train_step(*args)
        if count - 1 == number and after:
            act()
        return loss

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
    assert max(path.name for path in tmp_path.iterdir()).startswith(
        "01-00000002-"
    )  # step 7 was the second's 1
    monkeypatch.setattr(loop, "train_step", train_step)
    assert same(run("train", tmp_path, seconds=NEVER), undisturbed["train"])


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    undisturbed: dict[str, dict[str, Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "train_step", at_step(9, kill, after=False))
    with pytest.raises(Killed):
        run("train", tmp_path, seconds=ALWAYS)
    newest = max(tmp_path.iterdir())
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
        assert str(path) in message or path != max(tmp_path.iterdir())


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


def test_batches_of_a_step_do_not_depend_on_where_it_started() -> None:
    images, stage = toy_images(70, 1), Stage(name="s", epochs=2.5)
    every = list(training_batches(images, stage, TRAIN, 5, 0, 10))
    assert [step for step, _, _ in every] == list(range(10))
    for start in (1, 4, 7):
        rest = list(training_batches(images, stage, TRAIN, 5, start, 10))
        assert [step for step, _, _ in rest] == list(range(start, 10))
        assert all(torch.equal(a[1], b[1]) for a, b in zip(rest, every[start:], strict=True))
    plain = list(training_batches(images, stage, replace(TRAIN, augment=False), 5, 0, 4))
    seen = {tuple(x.flatten().tolist()) for _, batch, _ in plain for x in batch}
    assert len(seen) == 64  # no image twice in an epoch
    assert not torch.equal(plain[0][1], every[0][1])
    assert not torch.equal(every[0][1], every[4][1])  # the next epoch has another order


def test_weight_decay_spares_biases_and_norms() -> None:
    model = toy_net()
    decayed, spared = make_optimizer(model, PRETRAIN).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {
        "stem.weight",
        "head.weight",
        *(f"blocks.{i}.conv{j}.weight" for i in (0, 1) for j in (1, 2)),
    }
    assert len(spared["params"]) == len(names) - 6
    assert (decayed["weight_decay"], spared["weight_decay"]) == (PRETRAIN.weight_decay, 0.0)


def learner_of(supernet: Supernet) -> loop.Learner:
    def run_subnet(subnet: SubnetConfig | None, x: Tensor) -> Tensor:
        assert subnet is not None
        supernet.activate(subnet)
        outputs: Tensor = supernet(x)
        return outputs

    return loop.Learner(
        model=supernet.model,
        subnets=lambda stage, step: (),
        run=run_subnet,
        criterion=lambda x, y: lambda outputs: nn.functional.cross_entropy(outputs, y),
        begin=lambda stage: None,
        end=lambda stage: {},
    )


def one_step(supernet: Supernet, *subnets: SubnetConfig, **options: Any) -> float:
    """One step at learning rate 0.1 on 16 images; its loss."""
    plain = {"momentum": 0.0, "weight_decay": 0.0, "precision": "float32"}
    config = TrainConfig(**{**plain, **options})
    optimizer = make_optimizer(supernet.model, config)
    loop.set_learning_rate(optimizer, 0.1)
    x, y = toy_images(16, 1).batch(range(16))
    return train_step(learner_of(supernet), subnets, x, y, optimizer, config)


def weights(supernet: Supernet) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in supernet.model.named_parameters()}


def test_a_step_on_two_subnets_is_the_mean_of_their_steps() -> None:
    space = toy_supernet().space
    before = weights(toy_supernet())
    moves, losses = [], []
    for subnets in ((space.largest,), (space.smallest,), (space.largest, space.smallest)):
        supernet = toy_supernet()
        losses.append(one_step(supernet, *subnets))
        moves.append({name: value - before[name] for name, value in weights(supernet).items()})
    assert losses[2] == pytest.approx((losses[0] + losses[1]) / 2)
    for name in before:
        torch.testing.assert_close(
            moves[2][name], (moves[0][name] + moves[1][name]) / 2, rtol=1e-4, atol=1e-6
        )


def test_skipped_blocks_rest_while_inactive_channels_only_decay() -> None:
    supernet = toy_supernet()
    before = weights(supernet)
    one_step(supernet, supernet.space.smallest, weight_decay=0.5)  # no block, 4 of the stem's 8 channels
    after = weights(supernet)
    assert all(torch.equal(after[name], before[name]) for name in after if name.startswith("blocks."))
    decayed = before["stem.weight"] * (1 - 0.1 * 0.5)
    torch.testing.assert_close(after["stem.weight"][4:], decayed[4:])
    assert not torch.allclose(after["stem.weight"][:4], decayed[:4])


def test_gradients_are_clipped_to_the_norm() -> None:
    supernet = toy_supernet()
    before = weights(supernet)
    one_step(supernet, supernet.space.largest, clip_norm=0.01)
    moves = [(value - before[name]).flatten() for name, value in weights(supernet).items()]
    assert float(torch.cat(moves).norm()) == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_the_model_is_handed_back_contiguous_in_eval_mode_and_the_global_generator_untouched() -> None:
    model = toy_net()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pretrain(model, toy_data(), replace(PRETRAIN, epochs=0.5), seed=0)
    assert torch.equal(torch.rand(3), expected)
    assert all(not module.training for module in model.modules())
    assert all(tensor.is_contiguous() for tensor in model.state_dict().values())
