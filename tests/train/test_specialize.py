"""`bnas.specialize`: what is trained, what is kept, what stays as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from toy import PRETRAIN, toy_images, toy_net, toy_supernet

import bnas
from bnas.data import ImageSplits
from bnas.errors import ConfigError, SpaceError
from bnas.space import SubnetConfig
from bnas.supernet import Supernet, extract_subnet
from bnas.train import FinetuneConfig, evaluate, finetune, pretrain, recalibrate, recalibration_batches
from bnas.train import specialize as module_of
from bnas.train.specialize import Specialized, specialize

DATA = ImageSplits(name="toy", train=toy_images(512, 1), val=toy_images(400, 2), test=toy_images(300, 3))
CONFIG = FinetuneConfig(epochs=2, lr=0.05, batch_size=32, distill=0.5)


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    model = toy_net()
    pretrain(model, DATA, replace(PRETRAIN, epochs=6, batch_size=32), seed=0)
    made = toy_supernet()
    made.model.load_state_dict(model.state_dict())
    return made


@pytest.fixture(scope="module")
def smallest(supernet: Supernet) -> Specialized:
    return specialize(supernet, {"S": supernet.space.smallest}, DATA, CONFIG, seed=0)["S"]


def test_it_is_part_of_the_package() -> None:
    assert bnas.specialize is specialize


def test_the_module_has_the_metric_that_is_told(supernet: Supernet, smallest: Specialized) -> None:
    taken = extract_subnet(supernet, supernet.space.smallest)
    recalibrate(taken, recalibration_batches(DATA.train, 1024, seed=0))
    assert smallest.before == evaluate(taken, DATA.val)
    assert smallest.after == evaluate(smallest.module, DATA.val) > smallest.before + 3
    assert smallest.kept
    assert smallest.metric == "top1_percent"
    assert smallest.config == supernet.space.smallest
    assert not smallest.module.training


def test_it_is_the_training_that_finetune_does_and_a_recalibration(
    supernet: Supernet, smallest: Specialized
) -> None:
    batches = recalibration_batches(DATA.train, 1024, seed=0)
    subnet, teacher = (
        extract_subnet(supernet, config) for config in (supernet.space.smallest, supernet.space.largest)
    )
    recalibrate(subnet, batches)
    recalibrate(teacher, batches)
    finetune(subnet, DATA, CONFIG, seed=0, teacher=teacher)
    recalibrate(subnet, batches)
    for name, tensor in smallest.module.state_dict().items():
        assert torch.equal(tensor, subnet.state_dict()[name]), name


def test_the_supernet_and_a_module_that_is_given_stay_as_they_were(supernet: Supernet) -> None:
    own = toy_net()
    states = [{k: v.clone() for k, v in model.state_dict().items()} for model in (own, supernet.model)]
    made = specialize(supernet, {"own": own, "L": supernet.space.largest}, DATA, CONFIG, seed=0)
    assert list(made) == ["own", "L"]
    assert made["own"].config is None
    assert made["own"].after > made["own"].before  # it was not trained at all
    for model, state in zip((own, supernet.model), states, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_what_becomes_worse_is_left_as_it_was(supernet: Supernet, monkeypatch: pytest.MonkeyPatch) -> None:
    def ruined(model: nn.Module, **_: object) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()

    monkeypatch.setattr(module_of, "finetune", ruined)
    own = extract_subnet(supernet, supernet.space.largest)
    made = specialize(None, {"own": own}, DATA, CONFIG, seed=0)["own"]
    assert not made.kept
    assert made.after < made.before == evaluate(made.module, DATA.val)
    assert made.module is not own
    assert all(
        torch.equal(tensor, own.state_dict()[name]) for name, tensor in made.module.state_dict().items()
    )


def test_the_split_that_is_asked_for_and_the_folders(supernet: Supernet, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1, subnets=("B",))
    both = {"A": supernet.space.largest, "B": supernet.space.smallest}
    folders = {"checkpoint": tmp_path / "checkpoints", "tensorboard": tmp_path / "curves"}
    made = specialize(supernet, both, DATA, config, seed=0, split=DATA.test, **folders)
    assert list(made) == ["B"]  # which the config names
    assert made["B"].after == evaluate(made["B"].module, DATA.test)
    assert {path.name for folder in folders.values() for path in folder.iterdir()} == {"B"}


@pytest.mark.parametrize(
    ("subnets", "config", "text"),
    [
        ({}, CONFIG, "subnets: expected one at least, got none"),
        ({"A": SubnetConfig({"x": 1})}, FinetuneConfig(), r"epochs: expected more than 0, got 0, as in Fine"),
        ({"A": SubnetConfig({"x": 1})}, CONFIG, r"subnets\['A'\] is a config; give the super-network"),
        ({"A": nn.Identity()}, replace(CONFIG, subnets=("a",)), "config.subnets: no subnet 'a'"),
    ],
)
def test_bad_input(subnets: dict[str, SubnetConfig | nn.Module], config: FinetuneConfig, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        specialize(None, subnets, DATA, config, seed=0)


def test_a_config_of_another_space_is_told_before_any_training(supernet: Supernet) -> None:
    with pytest.raises(SpaceError, match="x: no such choice"):
        specialize(supernet, {"A": supernet.space.largest, "B": SubnetConfig({"x": 1})}, DATA, CONFIG, seed=0)
