"""The boxes of many images in a few arrays, and what is done about boxes that are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

from bnas import progress
from bnas.detection import Boxes
from bnas.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxTable:
    """The boxes of `n` images, m in all, ordered by image: a million images fit in memory.

    starts: int64 [n + 1]; image i has the boxes starts[i] to starts[i + 1].
    sizes: int64 [n, 2], width and height of the images as they are stored, in pixels.
    boxes: float32 [m, 4], x1, y1, x2, y2 as fractions of the image.
    labels: int64 [m]; crowd: bool [m]; areas: float32 [m], in pixels; all as in `Boxes`.
    """

    starts: np.ndarray
    sizes: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray

    @classmethod
    def empty(cls, sizes: np.ndarray) -> BoxTable:
        """Images of `sizes` [n, 2] without boxes."""
        return box_table(
            "", sizes=sizes, images=np.empty(0), corners=np.empty(0), labels=np.empty(0), crowd=np.empty(0)
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, image: int) -> Boxes:
        own = slice(self.starts[image], self.starts[image + 1])
        width, height = self.sizes[image].tolist()
        return Boxes(
            boxes=torch.from_numpy(self.boxes[own].copy()),
            labels=torch.from_numpy(self.labels[own].copy()),
            crowd=torch.from_numpy(self.crowd[own].copy()),
            areas=torch.from_numpy(self.areas[own].copy()),
            width=width,
            height=height,
            number=image,
        )

    def relabelled(self, labels: np.ndarray) -> BoxTable:
        """The same boxes with other labels [m]."""
        return replace(self, labels=labels.astype(np.int64))

    def take(self, images: Sequence[int] | np.ndarray) -> BoxTable:
        """The boxes of these images, in this order."""
        counts = np.diff(self.starts)[images]
        starts = np.concatenate([[0], np.cumsum(counts)])
        rows = np.repeat(self.starts[:-1][images] - starts[:-1], counts) + np.arange(starts[-1])
        return BoxTable(
            starts=starts,
            sizes=self.sizes[images],
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            crowd=self.crowd[rows],
            areas=self.areas[rows],
        )


def box_table(
    where: object,
    *,
    sizes: np.ndarray,
    images: np.ndarray,
    corners: np.ndarray,
    labels: np.ndarray,
    crowd: np.ndarray,
    areas: np.ndarray | None = None,
) -> BoxTable:
    """The table of boxes `corners` [m, 4] (x1, y1, x2, y2 in pixels) that lie in `images` [m] of `sizes` [n, 2].

    Boxes that reach beyond their image are cut to it; those without area, and those that are no numbers, are
    left out; both are counted and said once for `where`, the file they come from. `areas` [m] in pixels are
    kept where they are above 0 (COCO's are those of the outline, not of the box), else they are the boxes'.
    """
    corners = np.asarray(corners, np.float64).reshape(-1, 4)
    images = np.asarray(images, np.int64)
    known = np.asarray(np.isfinite(corners).all(axis=1))
    most = sizes.astype(np.float64)[images][:, [0, 1, 0, 1]]
    cut = np.clip(np.where(known[:, None], corners, 0), 0, most)
    beyond = known & (np.abs(cut - corners) > 1.0).any(1)  # files round: less than a pixel is no news
    spans = cut[:, 2:] - cut[:, :2]
    kept: np.ndarray = known & (spans > 0).all(1) & (spans / most[:, 2:] > np.finfo(np.float32).eps).all(1)
    own: np.ndarray = spans.prod(1)
    if areas is not None:
        given = np.asarray(areas, np.float64)
        own = np.where(np.isfinite(given) & (given > 0), given, own)
    _say(where, beyond=int((beyond & kept).sum()), empty=int((known & ~kept).sum()), nan=int((~known).sum()))
    rows = np.flatnonzero(kept)
    rows = rows[np.argsort(images[rows], kind="stable")]
    return BoxTable(
        starts=starts_of(images[rows], len(sizes)),
        sizes=np.asarray(sizes, np.int64).reshape(-1, 2),
        boxes=(cut[rows] / most[rows]).astype(np.float32),
        labels=np.asarray(labels, np.int64)[rows],
        crowd=np.asarray(crowd, bool)[rows],
        areas=own[rows].astype(np.float32),
    )


def starts_of(images: np.ndarray, n: int) -> np.ndarray:
    """Where the boxes of each of `n` images begin, int64 [n + 1], of the ascending image of each box."""
    starts: np.ndarray = np.concatenate([[0], np.cumsum(np.bincount(images, minlength=n))]).astype(np.int64)
    return starts


def check_sizes(where: object, sizes: np.ndarray, names: Sequence[str]) -> None:
    """Check that all images have at least one pixel a side.

    Raises:
        DataError: one has not.
    """
    for image in np.flatnonzero((sizes < 1).any(1))[:1]:
        width, height = sizes[image].tolist()
        raise DataError(f"{where}: image {names[image]} is said to have {width} x {height} pixels")


def _say(where: object, **counts: int) -> None:
    texts = {
        "beyond": "reach beyond their image and are cut to it",
        "empty": "have no area inside their image and are left out",
        "nan": "are no numbers and are left out",
    }
    said = [f"{count} {texts[kind]}" for kind, count in counts.items() if count]
    if said:
        _say_once(f"{where}: of its boxes, {'; '.join(said)}")


@cache
def _say_once(line: str) -> None:
    progress.say(line)
