"""Images kept in memory as bytes; size, augmentation and normalisation are made batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bnas.data.augment import rand_augment_batch
from bnas.data.splits import Batch, DataConfig, ImageSplits, split_indices

_MOST_PADDING = 2  # pixels a side; beyond that an image is resized
_RAND_AUGMENT = 1  # the place in an augmentation where its numbers are drawn


@dataclass(frozen=True, kw_only=True, eq=False)
class InMemoryImages:
    """Grey images `pixels` uint8 [n, height, width] and `labels` int64 [n], shown as [n, C, size, size].

    `mean` and `std` normalise grey levels between 0 and 1. `max_shift` and `flip` say what a seeded
    augmentation may do: shift by up to so many pixels with black coming in, mirror left to right; before
    that, on the pixels as they are stored, `rand_augment` operations of RandAugment with `magnitude`.
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
    rand_augment: int = 0
    magnitude: int = 9

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Sequence[int], *, augment: int | None = None, first: int = 0) -> Batch:
        """As `Images.batch`."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        grey, n = self.pixels[chosen].unsqueeze(1), len(chosen)
        if augment is not None and self.rand_augment:
            draws = uniform([augment, _RAND_AUGMENT], first, n, (self.rand_augment, 2))
            grey = rand_augment_batch(grey, draws, self.magnitude)
        grey = fit(grey, self.size)
        if augment is not None:
            draws = uniform([augment], first, n, (3,))
            grey = shift_and_flip(grey, draws, max_shift=self.max_shift, flip=self.flip)
        images = grey.float().div_(255).sub_(self.mean).div_(self.std)
        return images.repeat(1, self.channels, 1, 1), self.labels[chosen]


def uniform(seed: list[int], first: int, n: int, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [0, 1) for the images at places first, first + 1, … of a batch: [n, *shape].

    What a place gets does not depend on how the batch is cut in shares.
    """
    numbers: np.ndarray = np.random.default_rng(seed).random((first + n, *shape))[first:]
    return numbers


def fit(images: Tensor, size: int) -> Tensor:
    """Images [n, C, H, W] as [n, C, size, size]: zero-padded by up to 2 pixels a side, else resized as floats."""
    missing_h, missing_w = size - images.shape[2], size - images.shape[3]
    if all(0 <= missing <= 2 * _MOST_PADDING for missing in (missing_h, missing_w)):
        left, top = missing_w // 2, missing_h // 2
        return F.pad(images, (left, missing_w - left, top, missing_h - top))
    return F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)


def shift_and_flip(images: Tensor, draws: np.ndarray, *, max_shift: int, flip: bool) -> Tensor:
    """Each of the images [n, C, H, W] shifted by its own (dy, dx) and maybe mirrored; zeros come in.

    `draws` [n, 3] are uniform in [0, 1). All in one copy: a window into each of the zero-padded images.
    """
    height, width = images.shape[2:]
    dy, dx = (draws[:, :2] * (2 * max_shift + 1)).astype(int).T
    padded = F.pad(images, (max_shift,) * 4).numpy()
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (2, 3))
    picked = windows[np.arange(len(padded)), :, dy, dx]
    if flip:
        mirrored = draws[:, 2] < 0.5
        picked[mirrored] = picked[mirrored][..., ::-1]
    return torch.from_numpy(picked)


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
            rand_augment=config.rand_augment,
            magnitude=config.rand_augment_magnitude,
        )

    train_indices, val_indices, test_indices = split_indices(train[1], test[1], config)
    return ImageSplits(
        name=config.name,
        train=part(train, train_indices),
        val=part(train, val_indices),
        test=part(test, test_indices),
    )
