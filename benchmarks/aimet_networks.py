"""Small networks for `benchmarks.aimet`, in torch alone: AIMET's environment, which has no bnas, builds them as well.

`add` and `cat` are the modules that do an addition and a concatenation: AIMET's simulation in torch knows its own only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


class Add(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Cat(nn.Module):
    def forward(self, *x: Tensor) -> Tensor:
        return torch.cat(x, 1)


Make = Callable[[], nn.Module]


def convolution(
    inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1, act: Make | None = nn.ReLU
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([act()] if act else []))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, add: Make) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride=stride)
        self.second = convolution(outputs, outputs, act=None)
        self.shortcut = convolution(inputs, outputs, 1, stride, act=None) if stride > 1 else None
        self.add, self.relu = add(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))
        return self.relu(self.add(y, x if self.shortcut is None else self.shortcut(x)))


def resnet(add: Make = Add, cat: Make = Cat) -> nn.Module:
    """A stem, two stages of residual blocks, a linear layer."""
    return nn.Sequential(
        convolution(3, 16), nn.MaxPool2d(2), Block(16, 16, 1, add), Block(16, 32, 2, add),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def depthwise(add: Make = Add, cat: Make = Cat) -> nn.Module:
    """As MobileNet: depthwise convolutions between pointwise ones, ReLU6."""
    return nn.Sequential(
        convolution(3, 16, stride=2, act=nn.ReLU6), convolution(16, 16, groups=16, act=nn.ReLU6),
        convolution(16, 32, 1, act=nn.ReLU6), convolution(32, 32, stride=2, groups=32, act=nn.ReLU),
        convolution(32, 24, 1, act=None), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip


class Twice(nn.Module):
    """One ReLU and one convolution, each used in two places."""

    def __init__(self, add: Make) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.relu, self.add, self.fc = nn.ReLU(), add(), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        y = self.conv(x)
        z = self.conv(self.relu(y))
        return self.fc(self.add(y, z).mean((2, 3)))


class Branches(nn.Module):
    """A transposed convolution, a concatenation, a softmax at the end."""

    def __init__(self, cat: Make) -> None:
        super().__init__()
        self.stem, self.down = convolution(3, 16), convolution(16, 16, stride=2)
        self.up, self.act = nn.ConvTranspose2d(16, 8, 2, 2), nn.ReLU()
        self.cat, self.last = cat(), nn.Conv2d(24, 10, 1)
        self.pool, self.flat, self.softmax = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.cat(self.act(self.up(self.down(x))), x)
        return self.softmax(self.flat(self.pool(self.last(x))))


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet": resnet,
    "depthwise": depthwise,
    "twice": lambda add=Add, cat=Cat: Twice(add),
    "branches": lambda add=Add, cat=Cat: Branches(cat),
}


def seeded(name: str, seed: int = 0) -> nn.Module:
    """The network in eval mode, with batch norms that have something to fold."""
    torch.manual_seed(seed)
    module = NETWORKS[name]()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, 0, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias, 0, 0.2)
    return module.eval()


def with_state(module: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """`module` with the tensors of `state`, which is of one whose batch norms were folded into convolutions."""
    for path, layer in list(module.named_modules()):
        if isinstance(layer, nn.BatchNorm2d) and f"{path}.running_mean" not in state:
            module.get_submodule(path.rpartition(".")[0])._modules[path.rpartition(".")[2]] = nn.Identity()
        elif f"{path}.bias" in state and getattr(layer, "bias", 0) is None:
            layer.bias = nn.Parameter(torch.zeros_like(state[f"{path}.bias"]))
    module.load_state_dict(dict(state))
    return module.eval()
