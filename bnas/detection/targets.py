"""The boxes of images as labels: one tensor for a batch, which goes wherever a batch's labels go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bnas.errors import DataError

COLUMNS = (
    7  # x1, y1, x2, y2, label, crowd, area; in an image's first row: width, height, number, 0, _IMAGE, 0, 0
)
_IMAGE, _NONE = -2, -1  # in place of the label: the row of the image itself, a row without a box


@dataclass(frozen=True, kw_only=True, eq=False)
class Boxes:
    """What is known of the objects in one image.

    boxes: float32 [m, 4], x1, y1, x2, y2 as fractions of the image's width and height: they stay right when
        the image is resized.
    labels: int64 [m], indices of classes.
    crowd: bool [m], boxes that stand for many objects, or are too hard: neither learnt nor counted as missed.
    areas: float32 [m], in pixels of the image as it is stored; by them COCO tells small objects from large ones.
    width, height: of the image as it is stored, in pixels.
    number: of the image in its split.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    areas: Tensor
    width: int
    height: int
    number: int = 0

    def __len__(self) -> int:
        return len(self.labels)


def packed(images: Sequence[Boxes]) -> Tensor:
    """The boxes of a batch of images, float32 [n, 1 + most, 7]: a row for the image, and one for each box."""
    most = max(map(len, images), default=0)
    targets = torch.zeros(len(images), 1 + most, COLUMNS)
    targets[:, 1:, 4] = _NONE
    for row, own in zip(targets, images, strict=True):
        row[0] = torch.tensor([own.width, own.height, own.number, 0, _IMAGE, 0, 0])
        here = row[1 : 1 + len(own)]
        here[:, :4], here[:, 4], here[:, 5], here[:, 6] = own.boxes, own.labels, own.crowd, own.areas
    return targets


def unpacked(targets: Tensor) -> list[Boxes]:
    """The boxes of each image of a batch, where the targets lie.

    Raises:
        DataError: these are no targets that `packed` made.
    """
    if not (targets.dim() == 3 and targets.shape[2] == COLUMNS and bool((targets[:, :1, 4] == _IMAGE).all())):
        raise DataError(
            f"boxes: expected what bnas.detection.packed makes, float32 [images, 1 + boxes, {COLUMNS}], got "
            f"{str(targets.dtype).removeprefix('torch.')} {list(targets.shape)}; detectors need images with boxes"
        )
    found = []
    for row in targets:
        own = row[1:][row[1:, 4] >= 0]
        width, height, number = (int(x) for x in row[0, :3].tolist())
        found.append(
            Boxes(
                boxes=own[:, :4],
                labels=own[:, 4].long(),
                crowd=own[:, 5] > 0,
                areas=own[:, 6],
                width=width,
                height=height,
                number=number,
            )
        )
    return found
