"""Networks small enough to convert and quantize in a moment, with every kind of layer that matters."""

from __future__ import annotations

import torch
from oracles import randomize_norms
from torch import Tensor, nn


class SmallNet(nn.Module):
    """A 3×3 convolution, a residual block with a depthwise convolution, and a classifier; inputs [n, 3, 16, 16]."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.Hardswish(),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(width, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.block(x))


def small_net(width: int = 16, seed: int = 0) -> nn.Module:
    """A `SmallNet` with random weights and norms, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return randomize_norms(SmallNet(width), seed).eval()


def patterns(count: int, seed: int = 0) -> Tensor:
    """Images [count, 3, 16, 16] of four clearly different kinds, with some noise."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(123)) * 2
    which = torch.arange(count) % 4
    return kinds[which] + 0.3 * torch.randn(count, 3, 16, 16, generator=generator)
