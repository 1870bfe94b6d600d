"""Images with boxes, of any size and in files of any kind, as square inputs of a detector."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageOps

from bnas.data.box_table import BoxTable
from bnas.data.box_transforms import BoxTransforms, Window, shown
from bnas.data.crops import MEAN, STD, decoders, normalise, read_rgb
from bnas.data.splits import Batch
from bnas.detection import Boxes, packed
from bnas.errors import DataError

_PHOTOGRAPHS = 16  # kept decoded, of those that tiles are cut of


class ImageSource(Hashable, Protocol):
    """Where an image lies."""

    @property
    def name(self) -> str:
        """Of the image, as lists of images have it."""

    def image(self) -> Image.Image:
        """The image in colour. Raises DataError, which names the file, where it is none."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The image in the file `name` of a folder."""

    folder: Path
    name: str

    def image(self) -> Image.Image:
        return read_rgb(self.folder / self.name)

    def size(self) -> tuple[int, int]:
        """Width and height, in pixels. Raises DataError: the file is no readable image."""
        path = self.folder / self.name
        try:
            with Image.open(path) as file:
                return file.size
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: cannot be read as an image: {error}") from error


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a photograph whose width and height are `size`."""

    photograph: ImageSource
    size: tuple[int, int]
    part: Window

    @property
    def name(self) -> str:
        return f"{self.photograph.name} at {self.part.left}, {self.part.top}"

    def image(self) -> Image.Image:
        """Raises DataError: the file is no readable image, or has another size."""
        left, top, width, height = self.part
        whole = _photograph(self.photograph)
        if whole.size != self.size:
            raise _other_size(self.photograph, whole, *self.size)
        return whole.crop((left, top, left + width, top + height))


@lru_cache(maxsize=_PHOTOGRAPHS)
def _photograph(source: ImageSource) -> Image.Image:
    return source.image()


class Scenes(Protocol):
    """Images and their boxes, by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> tuple[Image.Image, Boxes]:
        """The RGB image and what is in it; called by several threads at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredScenes:
    """Images that lie in files, with the boxes of `table`."""

    sources: tuple[ImageSource, ...]
    table: BoxTable

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, number: int) -> tuple[Image.Image, Boxes]:
        """Raises DataError: the file is no readable image, or has another shape than its boxes were made for."""
        source, boxes = self.sources[number], self.table[number]
        image = source.image()
        if not _same_shape(image, boxes):
            turned = ImageOps.exif_transpose(image)
            if not _same_shape(turned, boxes):
                raise _other_size(source, image, boxes.width, boxes.height)
            image = turned
        return image, boxes

    def take(self, numbers: Sequence[int] | np.ndarray) -> StoredScenes:
        """These images, in this order."""
        return StoredScenes(sources=tuple(self.sources[i] for i in numbers), table=self.table.take(numbers))


def _other_size(source: ImageSource, image: Image.Image, width: int, height: int) -> DataError:
    return DataError(
        f"{source.name}: has {image.width} x {image.height} pixels, its boxes were made for {width} x {height}: "
        "mend its entry in the annotations, or take the original file"
    )


def _same_shape(image: Image.Image, boxes: Boxes) -> bool:
    """Whether the two have the same ratio of the sides, but for rounding: boxes are fractions of the image."""
    most = max(image.width, image.height, boxes.width, boxes.height)
    return abs(image.width * boxes.height - image.height * boxes.width) <= most


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxedImages:
    """A split of images with boxes, each resized to size x size pixels whatever its ratio of sides is.

    `mean` and `std` of each channel (of values from 0 to 1) normalise the images, as ImageNet's networks
    expect. `augment` says what a seeded augmentation does.
    """

    scenes: Scenes
    classes: tuple[str, ...]
    size: int
    augment: BoxTransforms = field(default_factory=BoxTransforms)
    threads: int = 1
    mean: tuple[float, ...] = tuple(MEAN.ravel().tolist())
    std: tuple[float, ...] = tuple(STD.ravel().tolist())

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.size, self.size

    def __len__(self) -> int:
        return len(self.scenes)

    def batch(self, indices: Sequence[int], *, augment: int | None = None, first: int = 0) -> Batch:
        """Normalised float32 images [n, 3, size, size] and their boxes as `bnas.detection.packed` makes them.

        Otherwise as `Images.batch`.

        Raises:
            DataError: a file is no readable image; names the file.
        """
        images = torch.empty(len(indices), *self.shape)
        pixels = images.numpy()

        def make(place: int) -> Boxes:
            image, boxes = self.scenes[indices[place]]
            boxes = replace(boxes, number=indices[place])
            if augment is None:
                image, boxes = shown(image, boxes, Window(0, 0, image.width, image.height), self.size)
            else:
                rng = np.random.default_rng([augment, first + place])
                image, boxes = self.augment(image, boxes, self.size, rng)
            normalise(image, pixels[place])
            return boxes

        if self.threads == 1 or len(indices) == 1:
            return images, packed([make(place) for place in range(len(indices))])
        return images, packed(list(decoders(self.threads).map(make, range(len(indices)))))


def listed(folder: Path, names: Sequence[str], where: object) -> tuple[ImageFile, ...]:
    """The files called so in `folder`, as `where` lists them; its listing is read once.

    Raises:
        DataError: the folder is missing, or some of the files are.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {where} lists {len(names)} images in it")
    there = set(os.listdir(folder))
    missing = [name for name in names if name not in there and not (folder / name).is_file()]
    if missing:
        shown_names = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise DataError(
            f"{folder}: {len(missing)} of the {len(names)} images that {where} lists are missing: {shown_names}; "
            "add them, or take them out of the annotations"
        )
    return tuple(ImageFile(folder, name) for name in names)
