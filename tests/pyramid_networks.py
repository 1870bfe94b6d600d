"""Small networks with a feature pyramid of the levels fine, middle, coarse and pool."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

IMAGES = (torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)),)


class Dense(nn.Module):
    """One head for all levels: maps of 16², 8², 4² and 2² for images of 32²."""

    def __init__(self) -> None:
        super().__init__()
        layers = OrderedDict(
            a=nn.Conv2d(3, 8, 3, 2, 1), b=nn.Conv2d(8, 16, 3, 2, 1), c=nn.Conv2d(16, 16, 3, 2, 1)
        )
        names = {"a": "fine", "b": "middle", "c": "coarse"}
        self.body: nn.Module = IntermediateLayerGetter(nn.Sequential(layers), names)
        self.fpn = FeaturePyramidNetwork([8, 16, 16], 8, LastLevelMaxPool())
        self.head = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.fpn(self.body(x)))

    def read(self, maps: dict[str, Tensor]) -> Tensor:
        return torch.cat([self.head(x).flatten(2) for x in maps.values()], 2).mean(2)


class HeadForEach(Dense):
    """A head for each level."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Conv2d(8, 4, 1) for _ in range(4)])

    def read(self, maps: dict[str, Tensor]) -> Tensor:
        heads = zip(self.heads, maps.values(), strict=False)
        return torch.cat([head(x).flatten(2) for head, x in heads], 2).mean(2)


class Mixed(Dense):
    """Its head reads the two finest maps as one."""

    def read(self, maps: dict[str, Tensor]) -> Tensor:
        x, y, *rest = maps.values()
        x = x + F.interpolate(y, x.shape[-2:])
        return torch.cat([self.head(x).flatten(2) for x in (x, *rest)], 2).mean(2)


class ByName(Dense):
    """It asks for a level that may be dropped."""

    def read(self, maps: dict[str, Tensor]) -> Tensor:
        return super().read(maps) * maps["fine"].mean()


class OwnPyramid(FeaturePyramidNetwork):
    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        return super().forward(x)


class OwnForward(Dense):
    def __init__(self) -> None:
        super().__init__()
        self.fpn = OwnPyramid([8, 16, 16], 8, LastLevelMaxPool())


class Fed(Dense):
    """Its maps come from layers that it calls one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleList(self.body.values())

    def forward(self, x: Tensor) -> Tensor:
        maps = OrderedDict()
        for name, layer in zip(("fine", "middle", "coarse"), self.body, strict=True):
            maps[name] = x = layer(x)
        return self.read(self.fpn(maps))


class OneLevel(Dense):
    def __init__(self) -> None:
        super().__init__()
        self.body.return_layers = {"c": "coarse"}
        self.fpn = FeaturePyramidNetwork([16], 8, LastLevelMaxPool())
