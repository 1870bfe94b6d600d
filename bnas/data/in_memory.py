"""Images kept in memory as bytes; size, augmentation and normalisation are made batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bnas.data.splits import Batch, DataConfig, ImageSplits, split_indices

_MOST_PADDING = 2  # pixels a side; beyond that an image is resized


@dataclass(frozen=True, kw_only=True, eq=False)
class InMemoryImages:
    """Grey images `pixels` uint8 [n, height, width] and `labels` int64 [n], shown as [n, C, size, size].

    `mean` and `std` normalise grey levels between 0 and 1. `max_shift` and `flip` say what a seeded
    augmentation may do: shift by up to so many pixels with black coming in, mirror left to right.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: float
    std: float
    size: int
    channels: int = 1
    flip: bool = True
    max_shift: int = 2

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Sequence[int], *, augment: int | None = None) -> Batch:
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        grey = fit(self.pixels[chosen].float().unsqueeze(1), self.size)
        if augment is not None:
            rng = np.random.default_rng(augment)
            grey = shift_and_flip(grey, rng, max_shift=self.max_shift, flip=self.flip)
        images = grey.div_(255).sub_(self.mean).div_(self.std)
        return images.repeat(1, self.channels, 1, 1), self.labels[chosen]


def fit(images: Tensor, size: int) -> Tensor:
    """Float images [n, C, H, W] as [n, C, size, size]: zero-padded by up to 2 pixels a side, else resized."""
    missing_h, missing_w = size - images.shape[2], size - images.shape[3]
    if all(0 <= missing <= 2 * _MOST_PADDING for missing in (missing_h, missing_w)):
        left, top = missing_w // 2, missing_h // 2
        return F.pad(images, (left, missing_w - left, top, missing_h - top))
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def shift_and_flip(images: Tensor, rng: np.random.Generator, *, max_shift: int, flip: bool) -> Tensor:
    """Each of the images [n, C, H, W] shifted by its own (dy, dx) and maybe mirrored; zeros come in.

    All in one gather: row and column numbers per image, read from the zero-padded batch.
    """
    n, _, height, width = images.shape
    shifts = torch.from_numpy(rng.integers(0, 2 * max_shift + 1, size=(2, n, 1)))
    mirrored = torch.from_numpy(rng.random((n, 1)) < 0.5) & flip
    across = torch.arange(width)
    rows = torch.arange(height) + shifts[0]
    columns = torch.where(mirrored, across.flip(0), across) + shifts[1]
    padded = F.pad(images, (max_shift,) * 4).permute(0, 2, 3, 1)
    picked = padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).contiguous()


def grey_splits(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    classes: tuple[str, ...],
    config: DataConfig,
    *,
    mean: float,
    std: float,
) -> ImageSplits:
    """The three splits of (pixels uint8 [n, H, W], labels [n]) pairs, as `config` asks for them.

    Raises:
        DataError: more images are asked for than there are.
    """

    def part(source: tuple[np.ndarray, np.ndarray], chosen: np.ndarray) -> InMemoryImages:
        return InMemoryImages(
            pixels=torch.from_numpy(source[0][chosen]),
            labels=torch.from_numpy(source[1][chosen].astype(np.int64)),
            classes=classes,
            mean=mean,
            std=std,
            size=config.size,
            channels=config.channels,
            flip=config.flip,
            max_shift=config.max_shift,
        )

    train_indices, val_indices, test_indices = split_indices(train[1], test[1], config)
    return ImageSplits(
        name=config.name,
        train=part(train, train_indices),
        val=part(train, val_indices),
        test=part(test, test_indices),
    )
