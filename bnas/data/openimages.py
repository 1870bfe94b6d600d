"""OpenImages as MLPerf uses it: 264 of its classes (https://github.com/mlcommons/inference, RetinaNet).

The files are the user's: OpenImages' own CSV files of boxes and classes, and a folder of images. Nothing is
downloaded here.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bnas import progress
from bnas.data.boxed_images import ImageFile
from bnas.data.boxed_splits import boxed_splits, folder_of
from bnas.data.coco import Annotated, check_same_categories, read_coco
from bnas.data.folder import SUFFIXES
from bnas.data.splits import DataConfig, ImageSplits
from bnas.errors import DataError
from bnas.files import write_text

CATEGORIES = tuple((Path(__file__).parent / "openimages_mlperf.txt").read_text(encoding="utf-8").splitlines())
_LABELS = "openimages-mlperf.json"
# Where the scripts of MLCommons, and `bnas data openimages-mlperf`, put the annotations of the two splits.
_ANNOTATIONS = {
    "train": ("annotations/openimages-mlperf-train.json", f"train/labels/{_LABELS}"),
    "validation": (f"annotations/{_LABELS}", f"validation/labels/{_LABELS}"),
}
_LAYOUT = (
    "expected there: train/data/*.jpg, validation/data/*.jpg, and their annotations/openimages-mlperf-train.json and "
    f"annotations/{_LABELS} (or train/labels/{_LABELS}, validation/labels/{_LABELS}); "
    "`python -m bnas data openimages-mlperf` makes them of OpenImages' CSV files"
)
_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
_FLAGS = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")
_DRAW = 105  # the place in a run where this file draws random numbers


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What was made of OpenImages' files: counts, and `names`, the images in the order of the JSON file."""

    names: tuple[str, ...]
    boxes: int
    absent: int
    """Images that have boxes of the 264 classes and are not in the folder."""


def load_openimages_mlperf(config: DataConfig) -> ImageSplits:
    """The folder `config.root` as MLCommons' scripts lay it out: val is drawn off train, test is validation.

    Raises:
        DataError: a file or folder is missing or damaged, the classes are not MLPerf's 264, or there are
            fewer images than asked for.
    """
    root = folder_of(config, _LAYOUT)

    def part(split: str, annotations: str | None, folder: str | None) -> Annotated:
        candidates = (
            [Path(annotations).expanduser()] if annotations else [root / x for x in _ANNOTATIONS[split]]
        )
        file = next((path for path in candidates if path.is_file()), None)
        if file is None:
            missing = " nor ".join(map(str, candidates))
            raise DataError(f"data.name={config.name}: there is no {missing}; {_LAYOUT}")
        made = read_coco(file, Path(folder).expanduser() if folder else root / split / "data")
        if made.classes != CATEGORIES:
            unknown = [name for name in made.classes if name not in CATEGORIES]
            what = f"{unknown[0]!r} is none of them" if unknown else "these are others, or in another order"
            raise DataError(
                f"{file}: expected the {len(CATEGORIES)} classes of OpenImages-MLPerf, it has {len(made.classes)}: "
                f"{what}; for other classes take data=coco"
            )
        return made

    train = part("train", config.train_annotations, config.train_folder)
    test = part("validation", config.test_annotations, config.test_folder)
    check_same_categories(train, test)
    return boxed_splits(config, train.scenes, test.scenes, train.classes)


def prepare_openimages_mlperf(boxes: Path, classes: Path, folder: Path, out: Path) -> Prepared:
    """Write the boxes of the 264 classes in `folder`'s images to `out`, in COCO's format.

    `boxes` is OpenImages' …-annotations-bbox.csv, `classes` its class-descriptions-boxable.csv. Categories
    have the ids 0 to 263, images those from 1 in the order of their names, as MLCommons' conversion gives
    them; boxes of groups are crowds. Images without any such box are left out, as there.

    Raises:
        DataError: a file is missing or damaged, a class is not described, or no image is in the folder.
        RunError: `out` cannot be written.
    """
    category = _categories(classes)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images")
    files = {path.stem: path.name for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}
    found: dict[str, list[tuple[int, tuple[float, ...], tuple[int, ...]]]] = {}
    absent: set[str] = set()
    for image, label, corners, flags in _rows(boxes, category):
        if image in files:
            found.setdefault(image, []).append((label, corners, flags))
        else:
            absent.add(image)
    if not found:
        raise DataError(f"{folder}: none of its {len(files)} images has a box of the 264 classes in {boxes}")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with progress.bar("sizes of images", len(found)) as advance:
        for number, name in enumerate(sorted(found), start=1):
            width, height = ImageFile(folder, files[name]).size()
            images.append({"id": number, "file_name": files[name], "width": width, "height": height})
            for label, (x1, x2, y1, y2), flags in found[name]:
                box = [x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": label,
                        "bbox": [round(x, 3) for x in box],
                        "area": round(box[2] * box[3], 3),
                        "iscrowd": int(flags[_FLAGS.index("IsGroupOf")] == 1),
                        **dict(zip(_FLAGS, flags, strict=True)),
                    }
                )
            advance()
    content = {
        "info": {"description": "OpenImages, the 264 classes of MLPerf"},
        "licenses": [],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CATEGORIES)],
        "images": images,
        "annotations": annotations,
    }
    write_text(out, json.dumps(content) + "\n")
    return Prepared(
        names=tuple(files[name] for name in sorted(found)), boxes=len(annotations), absent=len(absent)
    )


def drawn_for_calibration(names: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """`count` of the names (all, where there are fewer), in their order, fixed by `seed`."""
    chosen = np.random.default_rng([seed, _DRAW]).permutation(len(names))[:count]
    return [names[i] for i in np.sort(chosen)]


def _categories(file: Path) -> Mapping[str, int]:
    """The place among `CATEGORIES` of each label, as /m/0cmf2."""
    category: dict[str, int] = {}
    for row in _csv(file):
        if len(row) != 2:
            raise DataError(
                f"{file}: expected a label and its name on each line, as /m/0cmf2,Airplane; got {row[:3]}"
            )
        if row[1] in CATEGORIES:
            category[row[0]] = CATEGORIES.index(row[1])
    missing = [name for i, name in enumerate(CATEGORIES) if i not in category.values()]
    if missing:
        raise DataError(
            f"{file}: {len(missing)} of the {len(CATEGORIES)} classes of MLPerf are not in it: "
            f"{', '.join(missing[:3])}; expected OpenImages' class-descriptions-boxable.csv"
        )
    return category


def _rows(
    file: Path, category: Mapping[str, int]
) -> Iterator[tuple[str, int, tuple[float, ...], tuple[int, ...]]]:
    """Image, class, (x1, x2, y1, y2) and flags of each box of a class in `category`."""
    rows = _csv(file)
    header = next(rows, [])
    missing = [column for column in (*_COLUMNS, "IsGroupOf") if column not in header]
    if missing:
        raise DataError(f"{file}: has no column {missing[0]}; expected OpenImages' …-annotations-bbox.csv")
    image, label, *sides = (header.index(column) for column in _COLUMNS)
    flags = [header.index(flag) if flag in header else -1 for flag in _FLAGS]
    for number, row in enumerate(rows, start=2):
        try:
            if row and row[label] in category:
                corners = tuple(float(row[side]) for side in sides)
                marks = tuple(int(row[flag]) if flag >= 0 else -1 for flag in flags)
                yield row[image], category[row[label]], corners, marks
        except (ValueError, IndexError) as error:
            raise DataError(f"{file}: line {number} is damaged: {','.join(row)[:80]}") from error


def _csv(file: Path) -> Iterator[list[str]]:
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            yield from csv.reader(lines)
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"{file} {reason}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: is no CSV file: {error}") from error
