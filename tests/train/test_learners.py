"""That the trainings learn: on a toy problem, each part by what it must bring about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from toy import PRETRAIN, toy_images, toy_net, toy_supernet

from bnas import progress
from bnas.data import ImageSplits
from bnas.errors import ConfigError, SpaceError
from bnas.supernet import extract_subnet
from bnas.train import (
    FinetuneConfig,
    Stage,
    TrainConfig,
    evaluate,
    evaluate_subnet,
    finetune,
    pretrain,
    recalibration_batches,
    train,
)
from bnas.train.curves import read_history
from bnas.train.precision import autocast

DATA = ImageSplits(name="toy", train=toy_images(512, 1), val=toy_images(400, 2), test=toy_images(10, 3))
STAGES = (
    Stage(name="depth", dims={"depth": 0}, epochs=2, lr=0.05),
    Stage(name="width", dims={"depth": 0, "width": 0}, epochs=4, lr=0.05, reorder=True),
)


@pytest.fixture(scope="module")
def pretrained() -> nn.Module:
    model = toy_net()
    pretrain(model, DATA, replace(PRETRAIN, epochs=6, batch_size=32), seed=0)
    return model


def test_pretraining_learns(pretrained: nn.Module) -> None:
    assert evaluate(toy_net(), DATA.val) < 50
    assert evaluate(pretrained, DATA.val) > 85


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_all_subnets_learn_from_stage_to_stage(pretrained: nn.Module, precision: str) -> None:
    supernet = toy_supernet()
    space, calibration = supernet.space, recalibration_batches(DATA.train, 256, seed=0)

    def top1_percent(config: object) -> float:
        return evaluate_subnet(lambda c: extract_subnet(supernet, c), config, calibration, DATA.val)  # type: ignore[arg-type]

    assert top1_percent(space.smallest) < 50
    config = TrainConfig(stages=STAGES, batch_size=32, precision=precision)  # type: ignore[arg-type]
    train(supernet, DATA, config, seed=0, teacher=pretrained)
    assert supernet.active == space.largest
    assert top1_percent(space.largest) > 85
    assert top1_percent(space.smallest) > 80


def test_from_a_teacher_alone_its_answers_are_learnt(pretrained: nn.Module) -> None:
    """With distill = 1 the labels do not count; here they are wrong on purpose."""
    wrong = replace(DATA.train, y=(DATA.train.y + 1) % 4)  # type: ignore[type-var]
    supernet = toy_supernet()
    config = TrainConfig(stages=(Stage(name="all", epochs=6, lr=0.05),), batch_size=32, distill=1.0)
    train(supernet, replace(DATA, train=wrong), config, seed=0, teacher=pretrained)
    assert evaluate(supernet, DATA.val) > 80
    supernet = toy_supernet()
    train(supernet, replace(DATA, train=wrong), config, seed=0, teacher=None)
    assert evaluate(supernet, DATA.val) < 20


def test_stages_that_do_not_fit_are_refused_before_anything_happens() -> None:
    supernet = toy_supernet()
    before = {name: value.clone() for name, value in supernet.model.state_dict().items()}
    config = TrainConfig(stages=(Stage(name="all", dims={"kernel": 0}),))
    with pytest.raises(SpaceError, match=r"train\.stages\[0\]\.dims\.kernel"):
        train(supernet, DATA, config, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in supernet.model.state_dict().items())


def test_a_person_is_told_how_good_it_is_and_what_stays_untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "say", said.append)
    config = TrainConfig(stages=(Stage(name="depth", dims={"depth": 0}, epochs=0.1),), batch_size=32)
    train(toy_supernet(), DATA, config, seed=0)
    note, line = said
    assert "no stage opens all values of stem.width (3 such choices)" in note
    assert line.startswith("depth: 2 steps; top1_percent on validation images: largest ")


@pytest.mark.parametrize("importance", ["taylor", "activation"])
def test_channels_are_sorted_by_what_the_run_says(pretrained: nn.Module, importance: str) -> None:
    """Measures that run the network do so on training images, and leave no gradients or statistics behind."""
    supernet = toy_supernet()
    supernet.model.load_state_dict(pretrained.state_dict())
    config = TrainConfig(
        stages=(replace(STAGES[1], epochs=0.1, lr=1e-6),),
        batch_size=32,
        importance=importance,
        precision="float32",
    )
    before = evaluate(supernet.model, DATA.val)
    train(supernet, DATA, config, seed=0)
    moved = [
        name
        for name, own in supernet.model.named_parameters()
        if own.dim() == 4 and not torch.allclose(own, dict(pretrained.named_parameters())[name], atol=1e-3)
    ]
    assert moved
    assert evaluate(supernet.model, DATA.val) == pytest.approx(before, abs=2)


def test_an_importance_that_there_is_not() -> None:
    with pytest.raises(ConfigError, match="importance: no such importance 'tailor'; did you mean 'taylor'"):
        TrainConfig(importance="tailor")
    TrainConfig(importance="scores.json")


SANDWICH = Stage(
    name="all", dims={"depth": 0, "width": 0}, steps=4, lr=0.01, sampling="sandwich", subnets_per_step=3
)


@pytest.mark.parametrize("who", ["all", "largest"])
def test_who_drops(who: str) -> None:
    supernet = toy_supernet()
    space, seen = supernet.space, set[tuple[bool, bool]]()
    dropout = supernet.model.dropout

    def see(module: nn.Module, inputs: object, outputs: object) -> None:
        if module is dropout:  # and not that of an extracted subnet, which is evaluated
            seen.add((supernet.active == space.largest, dropout.training))

    dropout.register_forward_hook(see)
    config = TrainConfig(stages=(SANDWICH,), batch_size=32, dropout=who)  # type: ignore[arg-type]
    train(supernet, DATA, config, seed=0)
    assert seen == {(True, True), (False, who == "all")}
    assert not dropout.training


def test_watched_subnets_are_the_same_at_every_evaluation(tmp_path: Path) -> None:
    config = TrainConfig(
        stages=(SANDWICH, replace(SANDWICH, name="again")), batch_size=32, watch=2, evaluate_epochs=2 / 16
    )
    runs = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        train(toy_supernet(), DATA, config, seed=0, tensorboard=folder)
        runs.append(
            [point.values for point in read_history(folder) if "top1_percent/random-1" in point.values]
        )
    assert runs[0] == runs[1]
    names = {f"top1_percent/{name}" for name in ("largest", "smallest", "random-1", "random-2")}
    assert len(runs[0]) == 4  # within each stage and at its end
    assert all(names <= set(values) for values in runs[0])


def test_a_stage_may_evaluate_with_the_statistics_that_training_left(
    pretrained: nn.Module, tmp_path: Path
) -> None:
    """A mixture of all subnets', which recalibration replaces: the metrics differ."""
    told = []
    for images in (None, 0):
        supernet, folder = toy_supernet(), tmp_path / str(images)
        supernet.model.load_state_dict(pretrained.state_dict())
        stages = (replace(SANDWICH, lr=1e-9, recalibrate_images=images),)
        train(supernet, DATA, TrainConfig(stages=stages, batch_size=32), seed=0, tensorboard=folder)
        values = {name: x for point in read_history(folder) for name, x in point.values.items()}
        told.append(values["top1_percent/smallest"])
    assert told[0] != told[1]
    subnet = extract_subnet(supernet, supernet.space.smallest)
    with autocast("auto", torch.device("cpu")):
        assert told[1] == evaluate(subnet, DATA.val)


def test_a_finetuned_subnet_gains_from_its_teacher(pretrained: nn.Module) -> None:
    supernet = toy_supernet()
    supernet.model.load_state_dict(pretrained.state_dict())
    subnet = extract_subnet(supernet, supernet.space.smallest)
    before = evaluate(subnet, DATA.val)
    config = FinetuneConfig(epochs=4, lr=0.05, batch_size=32, distill=0.5)
    finetune(subnet, DATA, config, seed=0, teacher=pretrained)
    assert evaluate(subnet, DATA.val) > max(before + 3, 90)
