"""Composed scenes: garments of the embedded images at random places of random backgrounds, with exact boxes.

They are made from (seed, split, number) when they are asked for, each time the same, and are no photographs:
whatever is measured on them says so by their name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from bnas.data.boxed_splits import boxed_images
from bnas.data.embedded import FOLDER
from bnas.data.idx import CLASSES, read_split
from bnas.data.splits import DataConfig, ImageSplits, stratified
from bnas.detection import Boxes
from bnas.errors import DataError

MOST_OBJECTS = 6
_SCENES = 8000, 1000  # of training and test, where the options leave it open
_VAL_GARMENTS = 2000  # of the 12 000 embedded training images
_SIDES = 0.12, 0.45  # of the longer side of a garment, as a share of the scene's
_STRETCH = 0.8, 1.25  # width over height, of the garment's own
_BACKGROUND = 30, 225  # grey levels
_CONTRAST = 60, 160  # grey levels between a garment's brightest pixel and what is behind it
_FAINTEST = 0.3  # contrast of a garment's faintest pixel, of the brightest's
_HIDDEN = 0.2  # share of the smaller of two boxes that the other may cover
_TRIALS = 10
_PLACE, _GARMENTS = 103, 104  # the places in a run where this file draws random numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class ComposedScenes:
    """`count` scenes of `size` x `size` pixels with garments `pixels` uint8 [n, 28, 28] of classes `labels` [n].

    A scene has 1 to 6 garments, which may hide up to a fifth of each other; a box is that of the whole garment
    as it was scaled: the tight box of its pixels above 0.
    """

    pixels: np.ndarray
    labels: np.ndarray
    count: int
    size: int
    seed: int
    split: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Image.Image, Boxes]:
        rng = np.random.default_rng([self.seed, _PLACE, self.split, number])
        canvas = _background(self.size, rng)
        boxes: list[tuple[int, int, int, int]] = []
        labels: list[int] = []
        for _ in range(rng.integers(1, MOST_OBJECTS + 1)):
            garment = int(rng.integers(len(self.labels)))
            scaled = _scaled(self.pixels[garment], self.size, rng)
            box = _free_place(scaled.shape, self.size, boxes, rng)
            if box is not None:
                x1, y1, x2, y2 = box
                _paint(canvas[y1:y2, x1:x2], scaled, rng)
                boxes.append(box)
                labels.append(int(self.labels[garment]))
        corners = torch.tensor(boxes, dtype=torch.float32)
        return Image.fromarray(canvas).convert("RGB"), Boxes(
            boxes=corners / self.size,
            labels=torch.tensor(labels),
            crowd=torch.zeros(len(labels), dtype=torch.bool),
            areas=(corners[:, 2:] - corners[:, :2]).prod(1),
            width=self.size,
            height=self.size,
            number=number,
        )


def load_composed_scenes(config: DataConfig) -> ImageSplits:
    """Composed scenes of `config.size` pixels, by default 8000 to train, `val_images`, and 1000 to test.

    No garment is in scenes of two splits: those of val are 2000 of the embedded training images, drawn by
    `split_seed`; those of test are the embedded test images.

    Raises:
        DataError: grey images, tiles or one class are asked for.
    """
    for option, value in (("tile", config.tile), ("one_class", config.one_class)):
        if value is not None:
            raise DataError(f"data.{option}: data.name={config.name} has none: leave it out, got {value}")
    if config.channels != 3:
        raise DataError(
            f"data.channels: data.name={config.name} has images of 3 channels: set 3, got {config.channels}"
        )
    (pixels, labels), test = read_split(FOLDER, "train"), read_split(FOLDER, "t10k")
    rng = np.random.default_rng([config.split_seed, _GARMENTS])
    val = stratified(labels, _VAL_GARMENTS, rng)
    rest = np.setdiff1d(np.arange(len(labels)), val)

    def scenes(split: int, garments: tuple[np.ndarray, np.ndarray], count: int) -> ComposedScenes:
        return ComposedScenes(
            pixels=garments[0], labels=garments[1], count=count, size=config.size, seed=config.split_seed,
            split=split,
        )  # fmt: skip

    parts = (
        scenes(0, (pixels[rest], labels[rest]), config.train_images or _SCENES[0]),
        scenes(1, (pixels[val], labels[val]), config.val_images),
        scenes(2, test, config.test_images or _SCENES[1]),
    )
    train, val_scenes, test_scenes = (boxed_images(part, CLASSES, config) for part in parts)
    return ImageSplits(name=config.name, train=train, val=val_scenes, test=test_scenes)


def _background(size: int, rng: np.random.Generator) -> np.ndarray:
    """Grey levels uint8 [size, size]: plain, a gradient, or noise."""
    kinds: tuple[Callable[[int, np.random.Generator], np.ndarray], ...] = (_plain, _gradient, _noise)
    return kinds[rng.integers(len(kinds))](size, rng)


def _plain(size: int, rng: np.random.Generator) -> np.ndarray:
    return np.full((size, size), rng.integers(*_BACKGROUND), np.uint8)


def _gradient(size: int, rng: np.random.Generator) -> np.ndarray:
    """From one corner's grey level to that of the opposite one, by way of the others'."""
    low, across, down = rng.uniform(*_BACKGROUND, 3)
    ramp = np.linspace(0, 0.5, size, dtype=np.float32)
    levels: np.ndarray = ((across - low) * ramp + low + ((down - low) * ramp)[:, None]).astype(np.uint8)
    return levels


def _noise(size: int, rng: np.random.Generator) -> np.ndarray:
    """A grey level, plus or minus up to a drawn number of levels for each block of 1, 2 or 4 pixels."""
    most, block = int(rng.integers(8, 30)), 1 << int(rng.integers(3))
    level = int(rng.integers(_BACKGROUND[0] + most, _BACKGROUND[1] - most))
    blocks = -(-size // block)
    levels = rng.integers(level - most, level + most, (blocks, blocks), np.uint8)
    return np.repeat(np.repeat(levels, block, 0), block, 1)[:size, :size].copy()


def _scaled(garment: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The garment's grey levels at a drawn size, cut to the tight box of those above 0."""
    garment = _tight(garment)
    side, stretch, mirror = rng.uniform(*np.log(_SIDES)), rng.uniform(*np.log(_STRETCH)), rng.random() < 0.5
    height, width = garment.shape[0], garment.shape[1] * np.exp(stretch)
    scale = size * np.exp(side) / max(height, width)
    pixels = max(round(width * scale), 4), max(round(height * scale), 4)
    scaled = np.asarray(Image.fromarray(garment).resize(pixels, Image.Resampling.BILINEAR))
    return _tight(scaled[:, ::-1] if mirror else scaled)


def _tight(levels: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(levels.any(1)), np.flatnonzero(levels.any(0))
    return np.ascontiguousarray(levels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _free_place(
    shape: tuple[int, ...], size: int, taken: list[tuple[int, int, int, int]], rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """x1, y1, x2, y2 of a drawn place where little of this box or of those `taken` is hidden, if one is found."""
    height, width = shape
    for _ in range(_TRIALS):
        left, top = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
        box = (left, top, left + width, top + height)
        if all(_hidden(box, other) <= _HIDDEN for other in taken):
            return box
    return None


def _hidden(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """The area two boxes have in common, as a share of the smaller one."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    areas = ((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b))
    return max(width, 0) * max(height, 0) / min(areas)


def _paint(under: np.ndarray, garment: np.ndarray, rng: np.random.Generator) -> None:
    """Put the garment's pixels above 0 over `under`, lighter or darker than it by a drawn contrast."""
    behind, contrast = float(under.mean()), rng.uniform(*_CONTRAST)
    rooms = behind, 255 - behind  # for darker, for lighter
    lighter = rng.random() < 0.5 if min(rooms) > contrast else rooms[1] > rooms[0]
    signed = min(contrast, max(rooms)) * (1 if lighter else -1)
    shares = _FAINTEST + (1 - _FAINTEST) / 255 * np.arange(256)
    levels = np.clip(behind + signed * shares, 0, 255).astype(np.uint8)[garment]
    np.copyto(under, levels, where=garment > 0)
