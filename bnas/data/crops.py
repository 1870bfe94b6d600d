"""Photographs of any size as crops of one size: what training and evaluation on ImageNet see of them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from bnas.data.augment import rand_augment
from bnas.errors import DataError

# Grey levels of ImageNet per channel, and the crop of torchvision's reference training and evaluation.
MEAN, STD = (np.array(x, np.float32).reshape(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
_RESIZE_OVER_CROP = 256 / 224
_CROP_AREA, _CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
_LOG_RATIO = tuple(np.log(_CROP_RATIO).tolist())


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Crops of `size` x `size` pixels, made by `threads` threads.

    Augmented: a random resized crop, a random mirror image and `rand_augment` operations of RandAugment with
    `magnitude`, as ImageNet is trained on. Else: the shorter side resized to `resized` and the centre cropped.
    """

    size: int
    threads: int = 1
    rand_augment: int = 0
    magnitude: int = 9

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.size, self.size

    @property
    def resized(self) -> int:
        """Pixels along the shorter side of the image whose centre is cropped: size x 256/224."""
        return round(self.size * _RESIZE_OVER_CROP)

    def batch(
        self,
        load: Callable[[int], Image.Image],
        indices: Sequence[int],
        *,
        augment: int | None = None,
        first: int = 0,
    ) -> Tensor:
        """Normalised float32 crops [n, 3, size, size] of the RGB images load(index), as `Images.batch`.

        `load` is called by several threads at once; what it raises is raised here.
        """
        crops = torch.empty(len(indices), *self.shape)
        pixels = crops.numpy()

        def make(place: int, index: int) -> None:
            rng = None if augment is None else np.random.default_rng([augment, first + place])
            normalise(self.crop(load(index), rng), pixels[place])

        deque(decoders(self.threads).map(make, count(), indices), maxlen=0)
        return crops

    def crop(self, image: Image.Image, rng: np.random.Generator | None) -> Image.Image:
        """The centre of an image, or with `rng` its augmented random crop."""
        if rng is None:
            image = transforms.resize(image, [self.resized])
            middle: Image.Image = transforms.center_crop(image, [self.size, self.size])
            return middle
        top, left, height, width = random_crop(image.height, image.width, rng)
        image = transforms.resized_crop(image, top, left, height, width, [self.size, self.size])
        if rng.random() < 0.5:
            image = transforms.horizontal_flip(image)
        if self.rand_augment:
            image = rand_augment(image, rng.random((self.rand_augment, 2)), self.magnitude)
        return image

    def square(self, image: Image.Image) -> Image.Image:
        """The image resized and cropped to resized x resized pixels; the centre crop of both is the same."""
        image = transforms.resize(image, [self.resized])
        inner = _middle(self.resized, self.size)
        left, top = (_middle(side, self.size) - inner for side in image.size)
        return image.crop((left, top, left + self.resized, top + self.resized))


def _middle(side: int, size: int) -> int:
    """Where torchvision's centre crop of `size` pixels begins."""
    return round((side - size) / 2)


def random_crop(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height, width of a crop as torchvision's RandomResizedCrop draws it (arXiv:1409.4842, §6).

    Drawn here because torchvision's own reads the global generator, which threads would share.
    """
    for _ in range(10):
        area = height * width * rng.uniform(*_CROP_AREA)
        ratio = np.exp(rng.uniform(*_LOG_RATIO))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    # An image too long for such a crop: the largest centre crop of an allowed ratio.
    w = min(width, round(height * _CROP_RATIO[1]))
    h = min(height, round(width / _CROP_RATIO[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def read_rgb(path: Path, data: bytes | None = None) -> Image.Image:
    """The image file in colour; `data` are its bytes where it is a part of the file at `path`.

    Grey levels of 16 bit become those of 8 bit next to them; an alpha channel is left out.

    Raises:
        DataError: the file is no readable image; names the file.
    """
    try:
        with Image.open(path if data is None else BytesIO(data)) as file:
            if file.mode.startswith("I"):
                return _of_8_bit(file).convert("RGB")
            if file.mode != "RGB":
                return file.convert("RGB")
            file.load()
            return file  # without the copy that convert makes
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image: {error}") from error


def _of_8_bit(image: Image.Image) -> Image.Image:
    """A grey image of 16 bit; Pillow's own conversion makes all above 255 white."""
    levels = np.asarray(image).clip(0, 65535) / 257
    return Image.fromarray(levels.round().astype(np.uint8))


def normalise(image: Image.Image, out: np.ndarray) -> None:
    """Write the RGB image's normalised grey levels to `out`, float32 [3, H, W].

    In NumPy, which stays in its thread; torch would start a team of threads for each of the decoding ones.
    """
    planes = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
    np.divide(planes, 255, out=out, dtype=np.float32)
    np.subtract(out, MEAN, out=out)
    np.divide(out, STD, out=out)


@cache
def decoders(threads: int) -> ThreadPoolExecutor:
    """The process's `threads` threads that decode images."""
    return ThreadPoolExecutor(threads, thread_name_prefix="decode")


os.register_at_fork(after_in_child=decoders.cache_clear)  # threads stay with the parent
