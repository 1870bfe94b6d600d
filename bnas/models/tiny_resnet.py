"""A small residual network for images of about 32×32, which a CPU can pretrain in minutes.

The basic block of He et al. (arXiv:1512.03385, fig. 2) behind a 3×3 stem that does not shrink the image.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """relu(f(x) + shortcut(x)), f = conv-bn-relu-conv-bn; the shortcut is x itself where the shapes agree."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class TinyResNet(nn.Module):
    """Images [n, channels, H, W] to logits [n, num_classes].

    The stages `layer1`, `layer2`, … have `depths` blocks and `widths` channels; each but the first halves
    height and width.
    """

    def __init__(
        self,
        num_classes: int = 10,
        channels: int = 1,
        *,
        widths: Sequence[int] = (24, 48, 96),
        depths: Sequence[int] = (3, 3, 2),
    ) -> None:
        super().__init__()
        if len(widths) != len(depths) or not widths or min(*widths, *depths) < 1:
            raise ValueError(
                f"widths and depths must hold one positive number per stage each, "
                f"got widths={list(widths)}, depths={list(depths)}"
            )
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages = tuple(f"layer{i}" for i in range(1, len(widths) + 1))
        inputs = widths[0]
        for stage, width, depth in zip(self.stages, widths, depths, strict=True):
            blocks = [BasicBlock(inputs, width, 1 if stage == "layer1" else 2)]
            blocks += [BasicBlock(width, width, 1) for _ in range(depth - 1)]
            self.add_module(stage, nn.Sequential(*blocks))
            inputs = width
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits
