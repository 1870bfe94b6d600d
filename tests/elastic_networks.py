"""Small networks for the tests of the super-network."""

from __future__ import annotations

import oracles
import torch
from torch import Tensor, nn

from bnas.graph import trace
from bnas.models import ModelConfig, load_model
from bnas.space import SpaceRules, derive_space
from bnas.supernet import Supernet

IMAGES = (torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)),)


def tiny_resnet() -> nn.Module:
    options = {"widths": (8, 16), "depths": (2, 2)}
    model, _ = load_model(ModelConfig(options=options), num_classes=10, shape=(1, 32, 32))
    return oracles.randomize_norms(model)


def build(model: nn.Module, inputs: tuple[Tensor, ...] = IMAGES, **rules: object) -> Supernet:
    """A super-network with widths of 4 and more channels, unless `rules` say otherwise."""
    graph = trace(model, inputs)
    return Supernet(
        model, graph, derive_space(graph, SpaceRules(**{"width_multiple": 4, "width_min": 4, **rules}))
    )


class Cat(nn.Module):
    """Two convolutions whose outputs stand side by side in one norm: what is active lies in two ranges."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 16, 3), nn.Conv2d(1, 16, 3)
        self.norm, self.out = nn.BatchNorm2d(32), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.norm(torch.cat([self.a(x), self.b(x)], 1)))
        return y


class Gate(nn.Module):
    """A module of the user's own: bare parameters, lists of them, and its own arithmetic."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, channels, 3), nn.Conv2d(channels, 4, 1)
        self.scale = nn.Parameter(torch.rand(channels, 1, 1) + 0.5)
        self.shifts = nn.ParameterList([torch.rand(channels) for _ in range(2)])
        self.slopes = nn.ParameterDict({"up": torch.rand(channels) + 0.5})
        self.register_buffer("mean", torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x) * self.scale
        for shift in self.shifts:
            x = x + shift.view(-1, 1, 1)
        x = (x - self.mean[:, None, None]) * self.slopes["up"].view(-1, 1, 1)
        y: Tensor = self.last(x)
        return y


class Tied(nn.Module):
    """Two linear layers with one weight: what one reads the other makes."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(8, 16)
        self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 16)
        self.two.weight = self.one.weight
        self.leave = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.enter(x))
        x = x + torch.relu(self.one(x))
        x = x + torch.relu(self.two(x))
        y: Tensor = self.leave(x)
        return y
