"""Train, val and test of images with boxes, as `DataConfig` asks for them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bnas.data.box_table import BoxTable
from bnas.data.box_transforms import BoxTransforms
from bnas.data.boxed_images import BoxedImages, ImageFile, Scenes, StoredScenes
from bnas.data.folder import SUFFIXES
from bnas.data.splits import DataConfig, ImageSplits, drawn
from bnas.data.tiles import apart, tiled
from bnas.errors import DataError

_SHOWN = 3  # of what is missing


def folder_of(config: DataConfig, layout: str) -> Path:
    """`config.root`, a folder. Raises DataError: it is missing, or `config` asks for grey images."""
    if config.channels != 3:
        raise DataError(
            f"data.channels: data.name={config.name} has colour images: set 3, got {config.channels}"
        )
    if config.root is None:
        raise DataError(f"data.name={config.name} needs data.root=FOLDER; {layout}")
    root = Path(config.root).expanduser()
    if not root.is_dir():
        raise DataError(f"data.root={config.root}: no such folder; {layout}")
    return root


def boxed_splits(
    config: DataConfig, train: StoredScenes, test: StoredScenes, classes: tuple[str, ...]
) -> ImageSplits:
    """The splits of images in files: val is drawn off `train`, or with `config.tile` its lowest tiles are val.

    Raises:
        DataError: more images are asked for than there are, or an image for calibration is missing.
    """
    if config.one_class is not None:
        classes, train, test = (config.one_class,), _of_one_class(train), _of_one_class(test)
    calibration = _calibration(config, train)
    if config.tile is not None and calibration is not None:
        calibration = tiled(calibration, config.tile, config.tile)
    if config.tile is None:
        val_indices = drawn(len(train), config.val_images, "val_images", config, place=0, spared=1)
        rest, val = train.take(np.setdiff1d(np.arange(len(train)), val_indices)), train.take(val_indices)
    else:
        rest, val = apart(train, config)
        test = tiled(test, config.tile, config.tile)
    train_indices = drawn(len(rest), config.train_images, "train_images", config, place=1)
    test_indices = drawn(len(test), config.test_images, "test_images", config, place=2)

    return ImageSplits(
        name=config.name,
        train=boxed_images(rest.take(train_indices), classes, config),
        val=boxed_images(val, classes, config),
        test=boxed_images(test.take(test_indices), classes, config),
        calibration=None if calibration is None else boxed_images(calibration, classes, config),
    )


def boxed_images(scenes: Scenes, classes: tuple[str, ...], config: DataConfig) -> BoxedImages:
    """The scenes as `config` wants them sized and augmented."""
    return BoxedImages(
        scenes=scenes,
        classes=classes,
        size=config.size,
        augment=BoxTransforms(flip=config.flip, steps=config.box_augment),
        threads=config.batch_workers or os.cpu_count() or 1,
    )


def _of_one_class(scenes: StoredScenes) -> StoredScenes:
    return replace(scenes, table=scenes.table.relabelled(np.zeros_like(scenes.table.labels)))


def _calibration(config: DataConfig, train: StoredScenes) -> StoredScenes | None:
    """The images that `config.calibration` lists by name, with or without suffix, or a folder's, without boxes."""
    if config.calibration is None:
        return None
    place = Path(config.calibration).expanduser()
    if place.is_dir():
        return _without_boxes(place)
    try:
        lines = [line.strip() for line in place.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        raise DataError(
            f"data.calibration={place}: {reason}; expected a folder, or a list of image files, one a line"
        ) from error
    names = [line for line in lines if line]
    known = _by_name(train)
    found = {name: _meant(name, known) for name in names}
    missing = [name for name in names if len(found[name]) != 1]
    if missing or not names:
        shown = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
        several = len(found.get((missing or [""])[0], ())) > 1
        text = (
            f"{len(missing)} of its {len(names)} images are "
            f"{'several' if several else 'none'} of the training images: {shown}"
        )
        raise DataError(f"data.calibration={place}: {text if names else 'lists no image'}")
    return train.take([found[name][0] for name in names])


def _by_name(scenes: StoredScenes) -> dict[str, list[int]]:
    """The images that each name means."""
    known: dict[str, list[int]] = {}
    for number, source in enumerate(scenes.sources):
        for name in _names(source.name):
            known.setdefault(name, []).append(number)
    return known


def _meant(name: str, known: Mapping[str, list[int]]) -> Sequence[int]:
    """The images that a line of a list means; what follows a blank is no part of the name, if it is none with it."""
    for line in (name, name.split()[0]):
        for own in _names(line):
            if own in known:
                return known[own]
    return ()


def _names(image: str) -> Iterable[str]:
    """How a list may call an image: by its path in the folder or by its file's name, with or without suffix."""
    path = Path(image)
    return dict.fromkeys((path.as_posix(), (path.parent / path.stem).as_posix(), path.name, path.stem))


def _without_boxes(folder: Path) -> StoredScenes:
    names: Sequence[str] = sorted(n for n in os.listdir(folder) if Path(n).suffix.lower() in SUFFIXES)
    if not names:
        raise DataError(f"data.calibration={folder}: no image in it ({', '.join(sorted(SUFFIXES))})")
    sources = tuple(ImageFile(folder, name) for name in names)
    sizes = np.array([source.size() for source in sources], np.int64)
    return StoredScenes(sources=sources, table=BoxTable.empty(sizes))
