from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnas.errors import ConfigError, ModelError
from bnas.train.config import LoopConfig
from bnas.train.optimizers import OPTIMIZERS, make_optimizer, set_learning_rate


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
        self.token = nn.Parameter(torch.rand(1, 4, 1, 1))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head((self.norm(self.conv(x)) + self.token).mean((2, 3)))
        return y


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def decays(model: nn.Module, config: LoopConfig) -> dict[str, float]:
    """Weight decay by parameter."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: group["weight_decay"]
        for group in make_optimizer(model, config).param_groups
        for parameter in group["params"]
    }


def weights_after(
    model: nn.Module, optimizer: torch.optim.Optimizer, rates: tuple[float, ...]
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        model(torch.randn(3, 2, 5, 5, generator=generator)).square().sum().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


OPTIONS = {"momentum": 0.8, "betas": (0.7, 0.95), "weight_decay": 0.01}
THEIRS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=1.0, momentum=0.8, nesterov=True),
    "adam": lambda groups: torch.optim.Adam(groups, lr=1.0, betas=(0.7, 0.95)),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=1.0, betas=(0.7, 0.95)),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=1.0, momentum=0.8),
}


@pytest.mark.parametrize("name", THEIRS)
def test_steps_are_those_of_torchs_own(name: str) -> None:
    rates, ours, theirs = (0.01, 0.02, 0.005), net(), net()
    by_hand = {
        0.01: [theirs.conv.weight, theirs.token, theirs.head.weight],
        0.0: [theirs.conv.bias, theirs.norm.weight, theirs.norm.bias, theirs.head.bias],
    }
    groups = [{"params": params, "weight_decay": decay} for decay, params in by_hand.items()]
    expected = weights_after(theirs, THEIRS[name](groups), rates)
    optimizer = make_optimizer(ours, LoopConfig(optimizer=name, **OPTIONS))
    assert {group["lr"] for group in optimizer.param_groups} == {0.0}
    torch.testing.assert_close(list(weights_after(ours, optimizer, rates)), list(expected))
    assert not torch.equal(expected[-2], net().head.weight)


def test_without_momentum_sgd_is_plain() -> None:
    model = net()
    optimizer = make_optimizer(model, LoopConfig(momentum=0.0, weight_decay=0.0))
    before = model.head.weight.detach().clone()
    after = weights_after(model, optimizer, (0.1,))
    # some CPUs round product and difference at once
    torch.testing.assert_close(after[-2], before - 0.1 * model.head.weight.grad, rtol=1e-6, atol=1e-7)


def test_a_stage_may_have_its_own_optimizer() -> None:
    model, config = net(), LoopConfig(optimizer="sgd")
    assert isinstance(make_optimizer(model, config), torch.optim.SGD)
    assert isinstance(make_optimizer(model, config, "adamw"), torch.optim.AdamW)
    assert isinstance(make_optimizer(model, config, None), torch.optim.SGD)


def test_biases_and_norms_do_not_decay() -> None:
    assert decays(net(), LoopConfig(weight_decay=0.05)) == {
        "token": 0.05,
        "conv.weight": 0.05,
        "conv.bias": 0.0,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
        "head.weight": 0.05,
        "head.bias": 0.0,
    }
    assert set(decays(net(), LoopConfig(weight_decay=0.0)).values()) == {0.0}


def test_the_first_pattern_that_matches_counts() -> None:
    config = LoopConfig(weight_decay=0.05, decay={"token": 0.0, "*.bias": 0.2, "head.*": 0.3})
    assert decays(net(), config) == {
        "token": 0.0,
        "conv.weight": 0.05,
        "conv.bias": 0.2,
        "norm.weight": 0.0,
        "norm.bias": 0.2,
        "head.weight": 0.3,
        "head.bias": 0.2,
    }


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^decay\.heda\.\*: matches no parameter .*named as token, conv"):
        make_optimizer(net(), LoopConfig(decay={"conv.*": 0.1, "heda.*": 0.0}))


def test_a_shared_parameter_is_trained_once_under_any_of_its_names() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    model["b"].weight = model["a"].weight
    optimizer = make_optimizer(model, LoopConfig(decay={"b.*": 0.7}))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.7]
    assert [len(group["params"]) for group in optimizer.param_groups] == [1]


def test_frozen_parameters_are_left_out() -> None:
    model = net()
    model.conv.requires_grad_(False)
    model.norm.requires_grad_(False)
    assert set(decays(model, LoopConfig(decay={"conv.*": 0.1}))) == {"token", "head.weight", "head.bias"}
    model.requires_grad_(False)
    with pytest.raises(ModelError, match="nothing to train"):
        make_optimizer(model, LoopConfig())


def test_all_groups_get_the_learning_rate() -> None:
    optimizer = make_optimizer(net(), LoopConfig(decay={"head.*": 0.3}))
    assert len(optimizer.param_groups) == 3
    assert set_learning_rate(optimizer, 0.25) == 0.25
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_has_no_gradient_rests(name: str) -> None:
    model = net()
    optimizer = make_optimizer(model, LoopConfig(optimizer=name, weight_decay=0.5))
    set_learning_rate(optimizer, 0.1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    model.head.weight.grad = torch.ones_like(model.head.weight)
    optimizer.step()
    moved = [
        name
        for (name, parameter), own in zip(model.named_parameters(), before, strict=True)
        if not torch.equal(parameter, own)
    ]
    assert moved == ["head.weight"]


def test_a_weight_that_is_a_view_leaves_its_surroundings_alone() -> None:
    """torch's fused SGD writes past it."""
    big = torch.ones(4, 5)
    model = nn.Module()
    model.weight = nn.Parameter(big[:, :3])
    optimizer = make_optimizer(model, LoopConfig(weight_decay=0.0))
    set_learning_rate(optimizer, 0.1)
    for _ in range(2):
        model.weight.grad = torch.full((4, 3), 2.0)
        optimizer.step()
    assert torch.equal(big[:, 3:], torch.ones(4, 2))
    torch.testing.assert_close(big[:, :3], torch.full((4, 3), 1 - 0.1 * 2 * 1.9 - 0.1 * 2 * (1 + 0.9 * 1.9)))
