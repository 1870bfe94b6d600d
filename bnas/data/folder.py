"""Images in folders, one per class, laid out as ImageNet is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from bnas.data.splits import Batch, DataConfig, ImageSplits, split_indices
from bnas.errors import DataError

SUFFIXES = frozenset((".jpeg", ".jpg", ".png", ".bmp", ".webp", ".tif", ".tiff"))
# Grey levels of ImageNet per channel, and the crop of torchvision's reference training and evaluation.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RESIZE_OVER_CROP = 256 / 224
_CROP_AREA, _CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
_LAYOUT = "expected there: train/<class>/*.JPEG and val/<class>/*.JPEG"


@dataclass(frozen=True, kw_only=True, eq=False)
class FolderImages:
    """Image files `paths` with `labels` int64 [n], decoded by `threads` threads when a batch is asked for.

    Augmented: a random resized crop and a random mirror image, as ImageNet is trained on. Else: the shorter
    side resized to size x 256/224 and the centre cropped.
    """

    paths: tuple[Path, ...]
    labels: Tensor
    classes: tuple[str, ...]
    size: int
    threads: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.size, self.size

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Sequence[int], *, augment: int | None = None) -> Batch:
        """As `Images.batch`.

        Raises:
            DataError: a file is no readable image; names the file.
        """

        def decode(place: int, index: int) -> Tensor:
            rng = None if augment is None else np.random.default_rng([augment, place])
            return read_image(self.paths[index], self.size, rng)

        with ThreadPoolExecutor(self.threads, thread_name_prefix="decode") as pool:
            pixels = torch.stack(list(pool.map(decode, range(len(indices)), indices)))
        mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (MEAN, STD))
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return pixels.float().div_(255).sub_(mean).div_(std), self.labels[chosen]


def read_image(path: Path, size: int, rng: np.random.Generator | None) -> Tensor:
    """The image file as uint8 [3, size, size]: centre crop, or with `rng` random crop and mirror image.

    Raises:
        DataError: the file is no readable image.
    """
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image: {error}") from error
    if rng is None:
        image = transforms.resize(image, [round(size * _RESIZE_OVER_CROP)])
        image = transforms.center_crop(image, [size, size])
    else:
        top, left, height, width = random_crop(image.height, image.width, rng)
        image = transforms.resized_crop(image, top, left, height, width, [size, size])
        if rng.random() < 0.5:
            image = transforms.horizontal_flip(image)
    pixels: Tensor = transforms.pil_to_tensor(image)
    return pixels


def random_crop(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height, width of a crop as torchvision's RandomResizedCrop draws it (arXiv:1409.4842, §6).

    Drawn here because torchvision's own reads the global generator, which threads would share.
    """
    for _ in range(10):
        area = height * width * rng.uniform(*_CROP_AREA)
        ratio = np.exp(rng.uniform(*np.log(_CROP_RATIO)))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    # An image too long for such a crop: the largest centre crop of an allowed ratio.
    w = min(width, round(height * _CROP_RATIO[1]))
    h = min(height, round(width / _CROP_RATIO[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def load_imagenet(config: DataConfig) -> ImageSplits:
    """The folder `config.root` with train/<class>/ (val is drawn off it) and val/<class>/ (the test split).

    Raises:
        DataError: a folder is missing, a class is empty, the classes of train and val differ, or there are
            fewer images than asked for.
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

    def images(paths: tuple[Path, ...], labels: np.ndarray, chosen: np.ndarray) -> FolderImages:
        return FolderImages(
            paths=tuple(paths[i] for i in chosen),
            labels=torch.from_numpy(labels[chosen]),
            classes=classes,
            size=config.size,
            threads=config.batch_workers or os.cpu_count() or 1,
        )

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
