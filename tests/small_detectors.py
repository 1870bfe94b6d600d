"""A detector small enough to convert and quantize in a moment, as `bnas.detection` wants them."""

from __future__ import annotations

from typing import Literal

import torch
from oracles import randomize_norms
from torch import Tensor, nn

from bnas.detection import Decoding, RawDetections

SIZE = 32
SIDES = {4: 0.25, 8: 0.5}  # of the anchors of each level, by its stride


class SmallDetector(nn.Module):
    """Two levels with an anchor at each place, three classes; inputs [n, 3, H, W]."""

    def __init__(self, scores: Literal["sigmoid", "softmax"] = "sigmoid", width: int = 8) -> None:
        super().__init__()
        self.decoding = Decoding(scores=scores, weights=(1.0, 1.0, 1.0, 1.0), candidates=200, most_boxes=50)
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, stride=4, padding=3), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.down = nn.Sequential(
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.classes = nn.Conv2d(width, 3 + (scores == "softmax"), 3, padding=1)
        self.boxes = nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, images: Tensor) -> RawDetections:
        fine = self.stem(images)
        maps = [fine, self.down(fine)]
        grids = [_anchors(*own.shape[2:], side) for own, side in zip(maps, SIDES.values(), strict=True)]
        return RawDetections(
            torch.cat([self.classes(own).flatten(2).transpose(1, 2) for own in maps], 1),
            torch.cat([self.boxes(own).flatten(2).transpose(1, 2) for own in maps], 1),
            torch.cat(grids),
            tuple(map(len, grids)),
            self.decoding,
        )


def _anchors(height: int, width: int, side: float) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centres = torch.stack([(x + 0.5) / width, (y + 0.5) / height], -1).reshape(-1, 2)
    return torch.cat([centres - side / 2, centres + side / 2], 1)


def small_detector(
    scores: Literal["sigmoid", "softmax"] = "sigmoid", width: int = 8, seed: int = 0
) -> SmallDetector:
    """A `SmallDetector` with random weights and norms, in eval mode, sure of some boxes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = SmallDetector(scores, width)
        randomize_norms(net, seed)
        with torch.no_grad():
            net.classes.weight.mul_(4)
            net.classes.bias.copy_(torch.full_like(net.classes.bias, -2.0))
            net.boxes.weight.mul_(0.3)
    return net.eval()


def scenes(count: int, seed: int = 0, size: int = SIZE) -> Tensor:
    """Images [count, 3, size, size] with a few coloured rectangles and some noise."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.3 * torch.randn(count, 3, size, size, generator=generator)
    for image in images:
        for _ in range(3):
            x, y = torch.randint(0, size * 3 // 4, (2,), generator=generator).tolist()
            image[:, y : y + size // 4, x : x + size // 4] += torch.randn(3, 1, 1, generator=generator) * 2
    return images
