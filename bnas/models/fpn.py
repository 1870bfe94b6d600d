"""A residual network with a feature pyramid of chosen levels, made of torchvision's modules under its names."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelP6P7

# The finest first; each has half the height and width of the one before.
LEVELS = ("p3", "p4", "p5", "p6", "p7")
_OF_BODY = {"p3": "layer2", "p4": "layer3", "p5": "layer4"}
_PART = re.compile(r"(.*\bfpn\.(?:inner|layer|extra)_blocks\.)(\w+)\.(.+)")


class LastLevelP6(ExtraFPNBlock):  # type: ignore[misc]
    """What torchvision's `LastLevelP6P7` makes of p5, without p7."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(channels, channels, 3, 2, 1)
        nn.init.kaiming_uniform_(self.p6.weight, a=1)
        nn.init.zeros_(self.p6.bias)  # type: ignore[arg-type]

    def forward(self, p: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        return [*p, self.p6(p[-1])], [*names, "p6"]


class ResNetFPN(BackboneWithFPN):  # type: ignore[misc]
    """Images [n, 3, H, W] to maps [n, width, H / 8, W / 8] (p3) … [n, width, H / 128, W / 128] (p7), by name.

    The maps are those of the pyramid with all levels (Lin et al. 2017; p6 and p7 as in RetinaNet, Lin et al.
    2018), and what makes them has the same names and weights. Levels that are left out are not handed on, and
    modules that only they need do not exist: without p3 nothing is made of `layer2`; without p5 its map is
    still made where p6 or p7 is, of it.

    Args:
        body: a residual network of torchvision.
        levels: names of `LEVELS`, in this order.
        width: channels of every map.
    """

    def __init__(self, body: Any, levels: Sequence[str], width: int) -> None:
        extra = ("p6", "p7") if "p7" in levels else ("p6",) if "p6" in levels else ()
        finest = next(place for place, name in enumerate(_OF_BODY) if name in levels or name == "p5")
        maps = {layer: name for name, layer in list(_OF_BODY.items())[finest:]}
        channels = [body.inplanes // 4, body.inplanes // 2, body.inplanes][finest:]
        last: ExtraFPNBlock = LastLevelP6P7(width, width) if "p7" in extra else LastLevelP6(width)
        super().__init__(body, maps, channels, width, extra_blocks=last)
        if not extra:
            self.fpn.extra_blocks = None
        self.unread = tuple(name for name in (*maps.values(), *extra) if name not in levels)
        for place, name in enumerate(maps.values()):
            if name in self.unread and not (name == "p5" and extra):
                self.fpn.layer_blocks[place] = nn.Identity()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = super().forward(x)
        return OrderedDict((name, own) for name, own in maps.items() if name not in self.unread)


def of_levels(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of the weights of a network whose pyramid has all levels those that one with fewer has, under its names.

    `own` is the state dict of that one. A pyramid is built from its coarsest map on: if the `weights` are for
    more maps of the body, the finest are too many.
    """
    parts = {name: part for name in (*weights, *own) if (part := _PART.fullmatch(name))}
    there = {part[1] + part[2] for name, part in parts.items() if name in own}
    theirs, ours = (
        {part[2] for name, part in parts.items() if name in state and ".inner_" in part[1]}
        for state in (weights, own)
    )
    found = {}
    for name, value in weights.items():
        if part := parts.get(name):
            place = str(int(part[2]) - len(theirs) + len(ours)) if part[2].isdecimal() else part[2]
            if part[1] + place not in there:
                continue  # of a level that is left out
            name = f"{part[1]}{place}.{part[3]}"
        found[name] = value
    return found
