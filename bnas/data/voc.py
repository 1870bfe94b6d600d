"""Images with boxes in XML files as Pascal VOC's, one beside each image or in a folder of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from bnas.data.box_table import box_table, check_sizes
from bnas.data.boxed_images import ImageFile, StoredScenes
from bnas.data.boxed_splits import boxed_splits, folder_of
from bnas.data.folder import SUFFIXES
from bnas.data.splits import DataConfig, ImageSplits
from bnas.errors import DataError

_LAYOUT = (
    "expected there: Annotations/*.xml, JPEGImages/* and ImageSets/Main/{train,val} or {trainval,test}.txt, or in the "
    "folder itself images and an .xml of the same name for each, with data.test_names=[those held out]"
)
_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, kw_only=True)
class Described:
    """What one XML file says of its image: corners in pixels, the first pixel being 0."""

    size: tuple[int, int]
    names: tuple[str, ...]
    corners: tuple[tuple[float, float, float, float], ...]
    difficult: tuple[bool, ...]


def read_voc(file: Path, *, first_pixel: int = 1) -> Described:
    """The objects in one XML file; VOC counts pixels from 1, others that use its format from 0.

    Raises:
        DataError: the file is missing or damaged, or an object has no name or box.
    """
    try:
        text = file.read_bytes()
        if b"<!ENTITY" in text:  # a few may stand for gigabytes
            raise DataError(f"{file}: declares entities, which annotations do not need")
        root = ElementTree.fromstring(text)
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"{file} {reason}") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the latter two of an encoding
        raise DataError(f"{file} is damaged: no XML: {error}") from error
    objects = root.findall("object")
    width, height = (_pixels(root, f"size/{side}", file) for side in ("width", "height"))
    names = tuple((found.findtext("name") or "").strip() for found in objects)
    if "" in names:
        raise DataError(f"{file}: object {names.index('')} has no name")
    lows = (first_pixel, first_pixel, 0, 0)  # a box of one pixel has xmin = xmax where the first is 1
    corners = [
        [_number(found, f"bndbox/{side}", file) - low for side, low in zip(_SIDES, lows, strict=True)]
        for found in objects
    ]
    return Described(
        size=(width, height),
        names=names,
        corners=tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in corners),
        difficult=tuple((found.findtext("difficult") or "0").strip() == "1" for found in objects),
    )


def load_voc(config: DataConfig) -> ImageSplits:
    """The folder `config.root`: val is drawn off its training images. Boxes marked as difficult are crowds.

    Test images are those of ImageSets/Main/test.txt (training: trainval.txt), else of val.txt (train.txt),
    or without such lists `config.test_names`, names of images without suffix.

    Raises:
        DataError: a file is missing or damaged, the lists or names fit no image, or there are fewer images
            than asked for.
    """
    root = folder_of(config, _LAYOUT)
    lists = root / "ImageSets" / "Main"
    if lists.is_dir():
        images, annotations, first_pixel = root / "JPEGImages", root / "Annotations", 1
        pairs = (("trainval", "test"), ("train", "val"))
        pair = next((p for p in pairs if all((lists / f"{name}.txt").is_file() for name in p)), None)
        if pair is None:
            raise DataError(
                f"data.root={root}: {lists} has neither trainval.txt and test.txt nor train.txt and val.txt"
            )
        train, test = (_listed(lists / f"{name}.txt") for name in pair)
    else:
        images = annotations = root
        first_pixel = 0
        every = sorted(path.stem for path in root.glob("*.xml"))
        missing = [name for name in config.test_names if name not in every]
        if not every or not config.test_names or missing:
            found = f"its annotations are {', '.join(every[:3])}, …" if every else "no .xml file in it"
            about = f"data.test_names: no {missing[0]}.xml; " if missing else ""
            raise DataError(f"data.root={root}: {about}{found}; {_LAYOUT}")
        train, test = [n for n in every if n not in config.test_names], list(config.test_names)
    described = {
        name: read_voc(annotations / f"{name}.xml", first_pixel=first_pixel)
        for name in dict.fromkeys(train + test)
    }
    classes = tuple(sorted({name for one in described.values() for name in one.names}))
    if not classes:
        raise DataError(f"{annotations}: no object in any of its files")
    files = _images(images)

    def part(names: Sequence[str]) -> StoredScenes:
        if not names:
            raise DataError(f"data.root={root}: no image is left to train on, or to test")
        for name in names:
            if name not in files:
                raise DataError(f"{images}: no image for {annotations / name}.xml")
        own = [described[name] for name in names]
        sizes = np.array([one.size for one in own], np.int64)
        check_sizes(annotations, sizes, names)
        return StoredScenes(
            sources=tuple(ImageFile(images, files[name]) for name in names),
            table=box_table(
                annotations,
                sizes=sizes,
                images=np.repeat(np.arange(len(own)), [len(one.names) for one in own]),
                corners=np.array([corner for one in own for corner in one.corners], np.float64),
                labels=np.array([classes.index(name) for one in own for name in one.names], np.int64),
                crowd=np.array([hard for one in own for hard in one.difficult], bool),
            ),
        )

    return boxed_splits(config, part(train), part(test), classes)


def _listed(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is damaged: no text in UTF-8: {error}") from error
    return [line.split()[0] for line in lines if line.split()]


def _images(folder: Path) -> dict[str, str]:
    """File names of images by stem. Raises DataError: no such folder."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {_LAYOUT}")
    return {path.stem: path.name for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}


def _number(element: ElementTree.Element, path: str, file: Path) -> float:
    text = (element.findtext(path) or "").strip()
    try:
        return float(text)
    except ValueError as error:
        raise DataError(
            f"{file}: <{path.replace('/', '><')}>: expected a number, got {text[:40]!r}"
        ) from error


def _pixels(element: ElementTree.Element, path: str, file: Path) -> int:
    number = _number(element, path, file)
    if not isfinite(number):
        raise DataError(f"{file}: <{path.replace('/', '><')}>: expected a number of pixels, got {number}")
    return int(number)
