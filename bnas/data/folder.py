"""Images in folders, one per class, laid out as ImageNet is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bnas.data.cached import CachedImages, cached_pixels
from bnas.data.crops import Crops, read_rgb
from bnas.data.splits import Batch, DataConfig, Images, ImageSplits, split_indices
from bnas.errors import DataError

SUFFIXES = frozenset((".jpeg", ".jpg", ".png", ".bmp", ".webp", ".tif", ".tiff"))
_LAYOUT = "expected there: train/<class>/*.JPEG and val/<class>/*.JPEG"


@dataclass(frozen=True, kw_only=True, eq=False)
class FolderImages:
    """Image files `paths` with `labels` int64 [n], decoded and cropped when a batch is asked for."""

    paths: tuple[Path, ...]
    labels: Tensor
    classes: tuple[str, ...]
    crops: Crops

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.crops.shape

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Sequence[int], *, augment: int | None = None, first: int = 0) -> Batch:
        """As `Images.batch`.

        Raises:
            DataError: a file is no readable image; names the file.
        """

        def load(index: int) -> Image.Image:
            return read_rgb(self.paths[index])

        return self.crops.batch(load, indices, augment=augment, first=first), self.labels[list(indices)]


def load_imagenet(config: DataConfig) -> ImageSplits:
    """The folder `config.root` with train/<class>/ (val is drawn off it) and val/<class>/ (the test split).

    Raises:
        DataError: a folder is missing, a class is empty, the classes of train and val differ, there are
            fewer images than asked for, or `config.cache` cannot be filled with them.
        RunError: a file in `config.cache` cannot be written.
    """
    if config.root is None:
        raise DataError(f"data.name={config.name} needs data.root=FOLDER; {_LAYOUT}")
    if config.channels != 3:
        raise DataError(
            f"data.channels: data.name={config.name} has colour images: set 3, got {config.channels}"
        )
    root = Path(config.root).expanduser()
    for folder in (root, root / "train", root / "val"):
        if not folder.is_dir():
            raise DataError(f"data.root={config.root}: no such folder: {folder}; {_LAYOUT}")
    train, test = list_classes(root / "train"), list_classes(root / "val")
    classes = tuple(train)
    for name in sorted(train.keys() ^ test.keys()):
        here, there = ("train", "val") if name in train else ("val", "train")
        raise DataError(f"class {name!r} is a folder in {root / here} and not in {root / there}")

    def part(files: dict[str, tuple[Path, ...]]) -> tuple[tuple[Path, ...], np.ndarray]:
        labels = [label for label, name in enumerate(classes) for _ in files[name]]
        return tuple(path for name in classes for path in files[name]), np.array(labels, np.int64)

    crops = Crops(
        size=config.size,
        threads=config.batch_workers or os.cpu_count() or 1,
        rand_augment=config.rand_augment,
        magnitude=config.rand_augment_magnitude,
    )

    def images(paths: tuple[Path, ...], labels: np.ndarray, chosen: np.ndarray) -> Images:
        files, own = tuple(paths[i] for i in chosen), torch.from_numpy(labels[chosen])
        if config.cache is None:
            return FolderImages(paths=files, labels=own, classes=classes, crops=crops)
        pixels = cached_pixels(files, crops, Path(config.cache).expanduser())
        return CachedImages(pixels=pixels, labels=own, classes=classes, crops=crops)

    (train_paths, train_labels), (test_paths, test_labels) = part(train), part(test)
    train_indices, val_indices, test_indices = split_indices(train_labels, test_labels, config)
    return ImageSplits(
        name=config.name,
        train=images(train_paths, train_labels, train_indices),
        val=images(train_paths, train_labels, val_indices),
        test=images(test_paths, test_labels, test_indices),
    )


def list_classes(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The image files of each class folder in `folder`, both sorted by name: ImageNet's order of classes.

    Raises:
        DataError: there is no class folder, or one holds no image.
    """
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not classes:
        raise DataError(f"{folder}: no class folder in it; {_LAYOUT}")
    files = {}
    for name in classes:
        names = sorted(n for n in os.listdir(folder / name) if Path(n).suffix.lower() in SUFFIXES)
        if not names:
            raise DataError(f"{folder / name}: class folder without an image ({', '.join(sorted(SUFFIXES))})")
        files[name] = tuple(folder / name / n for n in names)
    return files
