"""A detector of a few thousand weights, and images with rectangles whose colour is their class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from bnas.data import ImageSplits
from bnas.detection import Boxes, Decoding, RawDetections, packed

CLASSES = ("red", "green", "blue")
SCALES = (0.25, 0.5)  # of the anchors of the two levels


class TinyDetector(nn.Module):
    """Two levels, of maps [H / 8, W / 8] and [H / 16, W / 16], with a square and two oblong anchors at each place."""

    def __init__(self, scores: Literal["sigmoid", "softmax"] = "sigmoid", width: int = 16) -> None:
        super().__init__()
        self.outputs = len(CLASSES) + (scores == "softmax")
        weights = (1.0, 1.0, 1.0, 1.0) if scores == "sigmoid" else (10.0, 10.0, 5.0, 5.0)
        self.decoding = Decoding(scores=scores, weights=weights)
        self.stem = nn.Sequential(*_conv(3, width), *_conv(width, width), *_conv(width, width))
        self.coarse = nn.Sequential(*_conv(width, width))
        self.scores = nn.ModuleList(nn.Conv2d(width, 3 * self.outputs, 3, padding=1) for _ in SCALES)
        self.shifts = nn.ModuleList(nn.Conv2d(width, 12, 3, padding=1) for _ in SCALES)
        if scores == "sigmoid":
            for own in self.scores:
                nn.init.constant_(own.bias, -4.6)  # a probability of .01, as in RetinaNet

    def forward(self, images: Tensor) -> RawDetections:
        fine = self.stem(images)
        maps = [fine, self.coarse(fine)]
        logits = [_rows(head(own), self.outputs) for head, own in zip(self.scores, maps, strict=True)]
        boxes = [_rows(head(own), 4) for head, own in zip(self.shifts, maps, strict=True)]
        anchors = [
            anchors_of(own.shape[-2], own.shape[-1], scale) for own, scale in zip(maps, SCALES, strict=True)
        ]
        levels = tuple(map(len, anchors))
        return RawDetections(
            torch.cat(logits, 1), torch.cat(boxes, 1), torch.cat(anchors).to(images), levels, self.decoding
        )


def _conv(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()


def _rows(x: Tensor, count: int) -> Tensor:
    """Maps [n, shapes count, h, w] as [n, h w shapes, count]."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, count)


def anchors_of(height: int, width: int, scale: float) -> Tensor:
    """[height width 3, 4] as fractions."""
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    half = torch.tensor([[1.0, 1.0], [1.4, 0.7], [0.7, 1.4]]) * scale / 2
    centres = torch.stack([x, y], -1).view(-1, 1, 2)
    return torch.cat([centres - half, centres + half], -1).view(-1, 4)


def tiny_detector(scores: Literal["sigmoid", "softmax"] = "sigmoid") -> TinyDetector:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyDetector(scores)


def some_boxes(
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    *,
    crowd: Sequence[bool] | None = None,
    size: tuple[int, int] = (100, 100),
    number: int = 0,
) -> Boxes:
    """Boxes as fractions, of an image of `size` (width, height), with the areas that they cover."""
    own = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    sides = (own[:, 2:] - own[:, :2]) * torch.tensor(size)
    return Boxes(
        boxes=own,
        labels=torch.tensor(labels, dtype=torch.int64),
        crowd=torch.tensor(crowd if crowd is not None else [False] * len(labels)).bool(),
        areas=sides.prod(1),
        width=size[0],
        height=size[1],
        number=number,
    )


@dataclass(frozen=True)
class Rectangles:
    """`count` images of `side` pixels with one to three rectangles on grey noise."""

    count: int
    seed: int
    side: int = 64
    classes: tuple[str, ...] = CLASSES

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.side, self.side

    def __len__(self) -> int:
        return self.count

    def batch(
        self, indices: Sequence[int], *, augment: int | None = None, first: int = 0
    ) -> tuple[Tensor, Tensor]:
        images, labels = zip(*(self._image(index) for index in indices), strict=True)
        return torch.stack(images), packed(labels)

    def _image(self, index: int) -> tuple[Tensor, Boxes]:
        rng = np.random.default_rng([self.seed, index])
        image = torch.from_numpy(rng.normal(scale=0.2, size=self.shape)).float()
        boxes: list[list[float]] = []
        labels: list[int] = []
        for _ in range(int(rng.integers(1, 4))):
            size, corner = rng.uniform(0.2, 0.5, 2), rng.uniform(0, 0.5, 2)
            box = [*corner, *(corner + size)]
            if boxes and box_iou(torch.tensor([box]), torch.tensor(boxes)).max() > 0.1:
                continue
            x1, y1, x2, y2 = (round(edge * self.side) for edge in box)
            label = int(rng.integers(len(self.classes)))
            image[label, y1:y2, x1:x2] += 1.5
            boxes.append([x1 / self.side, y1 / self.side, x2 / self.side, y2 / self.side])
            labels.append(label)
        return image, some_boxes(boxes, labels, size=(self.side, self.side), number=index)


def rectangles(train: int = 8, val: int = 8) -> ImageSplits:
    """The validation images are the first of the training images: what is learnt by heart shows there."""
    images = Rectangles(train, 1)
    return ImageSplits(name="rectangles", train=images, val=Rectangles(val, 1), test=images)
