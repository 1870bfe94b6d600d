"""Networks that nobody thought of: random sequences of parts, on each of which oracles 1–6 hold."""

from __future__ import annotations

import copy
import math

import numpy as np
import oracles
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bnas.graph import trace
from bnas.space import SpaceRules, derive_space
from bnas.supernet import Supernet, prove


class Part(nn.Module):
    """Maps [N, channels, 6, 6] to [N, self.channels, 6, 6]."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.channels = width


class Conv(Part):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width)
        self.conv, self.norm = nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Residual(Part):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, channels)
        self.a, self.b = Conv(channels, width), nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(self.a(x))


class Branches(Part):
    """A concatenation, with the input itself in the middle."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, channels + 2 * width)
        self.a, self.b = nn.Conv2d(channels, width, 1), Conv(channels, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x), x, self.b(x)], 1)


class Depthwise(Part):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width)
        self.depth = nn.Conv2d(channels, 2 * channels, 3, padding=1, groups=channels)
        self.point = nn.Conv2d(2 * channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.point(F.silu(self.depth(x)))


class Grouped(Part):
    def __init__(self, channels: int, width: int) -> None:
        groups = channels // 4  # four channels each: all parts put out a multiple of four
        super().__init__(channels, groups * (width // 4) * 4)
        self.conv = nn.Conv2d(channels, self.channels, 3, padding=1, groups=groups)
        self.norm = nn.GroupNorm(groups, self.channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Shared(Part):
    """One layer, called twice."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width)
        self.first, self.shared = nn.Conv2d(channels, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.shared(F.relu(self.shared(y)))


class Excite(Part):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, channels)
        self.down, self.up = nn.Linear(channels, width), nn.Linear(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))[:, :, None, None]


class Gated(Part):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width)
        self.conv = nn.Conv2d(channels, 2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv(x).chunk(2, 1)
        return a * torch.sigmoid(b)


class Scaled(Part):
    """A bare parameter, as a layer scale."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, channels)
        self.gamma, self.conv = nn.Parameter(torch.rand(channels, 1, 1)), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.conv(x)


class Mlp(Part):
    """Layer norm and two linear layers over the channels of each token."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.up, self.down = nn.Linear(channels, 2 * width), nn.Linear(2 * width, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(F.gelu(self.up(self.norm(x.permute(0, 2, 3, 1)))))
        return x + y.permute(0, 3, 1, 2)


class Attention(Part):
    """Four heads over the tokens, with queries, keys and values from one layer."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, channels)
        self.num_heads, self.size = 4, width // 4
        self.qkv, self.out = nn.Linear(channels, 3 * width), nn.Linear(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(tokens).reshape(n, h * w, 3, self.num_heads, self.size).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = q @ k.transpose(-2, -1) / math.sqrt(self.size)
        y = self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return x + y.transpose(1, 2).reshape(n, -1, h, w)


PARTS: list[type[Part]] = [
    Conv, Residual, Branches, Depthwise, Grouped, Shared, Excite, Gated, Scaled, Mlp, Attention,
]  # fmt: skip


class Network(nn.Module):
    def __init__(self, parts: list[tuple[type[Part], int]]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 1)
        self.body, channels = nn.Sequential(), 16
        for kind, width in parts:
            self.body.append(kind(channels, width))
            channels = self.body[-1].channels
        self.head = nn.Linear(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(self.stem(x)).mean((2, 3)))
        return y


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    parts=st.lists(st.tuples(st.sampled_from(PARTS), st.sampled_from([8, 12, 16])), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_oracles_hold_on_random_networks(parts: list[tuple[type[Part], int]], seed: int) -> None:
    torch.manual_seed(seed)
    original = oracles.randomize_norms(Network(parts), seed).eval()
    inputs = (torch.randn(2, 3, 6, 6),)
    graph = trace(original, inputs)
    free = {group.name for group in graph.groups if group.free}
    assert {group.name for group in graph.groups} - free == {"head"}  # every part can be elastic
    space = derive_space(graph, SpaceRules(width_ratios=(0.25, 0.5, 0.75, 1.0), width_multiple=1))
    supernet = Supernet(copy.deepcopy(original), graph, space)
    assert prove(supernet, inputs, seed=seed).refused == ()
    rng = np.random.default_rng(seed)
    oracles.check_largest(original, supernet, inputs)
    for config in (space.smallest, space.sample(rng)):
        oracles.check_extraction(original, supernet, config, inputs)
        oracles.check_costs(supernet, config, inputs)
        oracles.check_gradients(supernet, config, inputs)
    oracles.check_reordering(supernet, inputs)
