"""Images with boxes described by a JSON file as COCO's are (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bnas.data.box_table import box_table, check_sizes
from bnas.data.boxed_images import StoredScenes, listed
from bnas.data.boxed_splits import boxed_splits, folder_of
from bnas.data.splits import DataConfig, ImageSplits
from bnas.errors import DataError

_LAYOUT = (
    "expected there: annotations/instances_train*.json and instances_val*.json, and the folders train* and val* "
    "of their images; or give data.train_annotations, data.train_folder, data.test_annotations, data.test_folder"
)
_SHOWN = 3  # of what is wrong


@dataclass(frozen=True, kw_only=True, eq=False)
class Annotated:
    """The images of one JSON file, and its classes in the order of their ids."""

    scenes: StoredScenes
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]


def read_coco(annotations: Path, folder: Path) -> Annotated:
    """The images that the JSON file lists, which lie in `folder`, with or without boxes, in the file's order.

    Ids of categories may have gaps: a label is the place of its category's id in their ascending order.

    Raises:
        DataError: the JSON file is missing or damaged, lists no image or no category, a box belongs to none of
            its images or categories, or an image is missing in `folder`; names the file.
    """
    content = _content(annotations)
    images, categories, boxes = (
        _entries(content, part, annotations) for part in ("images", "categories", "annotations")
    )
    for part, entries in (("image", images), ("category", categories)):
        if not entries:
            raise DataError(f"{annotations}: lists no {part}; expected the format of COCO's instances_*.json")
    names = [str(x) for x in _column(images, "file_name", str, annotations, "images")]
    sizes = np.array(
        list(
            zip(
                _column(images, "width", int, annotations, "images"),
                _column(images, "height", int, annotations, "images"),
                strict=True,
            )
        ),
        np.int64,
    )
    check_sizes(annotations, sizes, names)
    ids = _column(categories, "id", int, annotations, "categories")
    titles = dict(zip(ids, _column(categories, "name", str, annotations, "categories"), strict=True))
    labels = {category: label for label, category in enumerate(sorted(titles))}
    places = {
        image: place for place, image in enumerate(_column(images, "id", (int, str), annotations, "images"))
    }
    for part, found, entries in (("images", places, images), ("categories", labels, categories)):
        if len(found) != len(entries):
            raise DataError(f"{annotations}: {len(entries) - len(found)} of the ids in '{part}' occur twice")
    of_image = _places(boxes, "image_id", places, "images", annotations)
    of_class = _places(boxes, "category_id", labels, "categories", annotations)
    corners = _corners(boxes, annotations)
    return Annotated(
        scenes=StoredScenes(
            sources=listed(folder, names, annotations),
            table=box_table(
                annotations,
                sizes=sizes,
                images=of_image,
                corners=corners,
                labels=of_class,
                crowd=np.array([bool(box.get("iscrowd")) for box in boxes], bool),
                areas=np.array([_number(box.get("area")) for box in boxes], np.float64),
            ),
        ),
        classes=tuple(str(titles[category]) for category in sorted(titles)),
        category_ids=tuple(sorted(titles)),
    )


def load_coco(config: DataConfig) -> ImageSplits:
    """The folder `config.root` as COCO is laid out: val is drawn off its train images, test are its val images.

    Raises:
        DataError: a file or folder is missing or damaged, the two JSON files have different categories, or
            there are fewer images than asked for.
    """
    root = folder_of(config, _LAYOUT)

    def part(split: str, annotations: str | None, folder: str | None) -> Annotated:
        file = (
            Path(annotations).expanduser()
            if annotations
            else only(root, f"annotations/instances_{split}*.json", Path.is_file)
        )
        images = Path(folder).expanduser() if folder else only(root, f"{split}*", Path.is_dir)
        return read_coco(file, images)

    train = part("train", config.train_annotations, config.train_folder)
    test = part("val", config.test_annotations, config.test_folder)
    check_same_categories(train, test)
    return boxed_splits(config, train.scenes, test.scenes, train.classes)


def check_same_categories(train: Annotated, test: Annotated) -> None:
    """Check that labels mean the same in both. Raises DataError."""
    ours, theirs = (dict(zip(x.category_ids, x.classes, strict=True)) for x in (train, test))
    for category in sorted(ours.items() ^ theirs.items())[:1]:
        raise DataError(
            f"the annotations of train and val have different categories: {category[1]!r} with id {category[0]} is "
            f"one of {'train' if category in ours.items() else 'val'} only"
        )


def only(root: Path, pattern: str, kind: Callable[[Path], bool]) -> Path:
    """The one file or folder in `root` called so. Raises DataError: there is none, or several."""
    found = sorted(path for path in root.glob(pattern) if kind(path))
    if len(found) == 1:
        return found[0]
    what = ", ".join(path.name for path in found) if found else "nothing"
    raise DataError(f"data.root={root}: expected one {pattern} in it, found {what}; {_LAYOUT}")


def _content(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"{file} {reason}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is damaged: no JSON: {error}; copy it again") from error
    if not isinstance(content, dict):
        raise DataError(
            f"{file}: expected a JSON object with images, annotations and categories, as COCO has them"
        )
    return content


def _entries(content: Mapping[str, Any], part: str, file: Path) -> list[dict[str, Any]]:
    entries = content.get(part)
    if not isinstance(entries, list):
        raise DataError(
            f"{file}: has no list '{part}'; expected images, annotations and categories, as COCO has them"
        )
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DataError(f"{file}: {part}[{place}]: expected a JSON object, got {str(entry)[:40]!r}")
    return entries


def _column(
    entries: Sequence[dict[str, Any]], key: str, kind: type | tuple[type, ...], file: Path, part: str
) -> list[Any]:
    values = [entry.get(key) for entry in entries]
    for place, value in enumerate(values):
        if isinstance(value, float) and issubclass(int, kind) and value.is_integer():
            values[place] = int(value)
        elif not isinstance(value, kind) or isinstance(value, bool):
            wanted = "number" if kind is int else "text" if kind is str else "number or text"
            got = "nothing" if value is None else repr(value)[:40]
            raise DataError(f"{file}: {part}[{place}].{key}: expected a {wanted}, got {got}")
    return values


def _places(
    boxes: Sequence[dict[str, Any]], key: str, places: Mapping[Any, int], part: str, file: Path
) -> np.ndarray:
    values = _column(boxes, key, (int, str), file, "annotations")
    unknown = [value for value in values if value not in places]
    if unknown:
        shown = ", ".join(map(str, list(dict.fromkeys(unknown))[:_SHOWN]))
        raise DataError(
            f"{file}: {len(unknown)} of the {len(boxes)} boxes have a {key} that '{part}' has not: {shown}; "
            "add it there, or take these boxes out"
        )
    return np.array([places[value] for value in values], np.int64)


def _corners(boxes: Sequence[dict[str, Any]], file: Path) -> np.ndarray:
    """x1, y1, x2, y2 in pixels, of COCO's x, y, width, height."""
    rows = np.full((len(boxes), 4), np.nan)
    for place, box in enumerate(boxes):
        try:
            found = box.get("bbox")
            if found is not None and not (isinstance(found, list) and len(found) == 4):
                raise ValueError("not four numbers")
            rows[place] = found
        except (TypeError, ValueError) as error:
            got = str(box.get("bbox"))[:40]
            raise DataError(
                f"{file}: annotations[{place}].bbox: expected x, y, width, height, got {got}"
            ) from error
    return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:]], 1)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else np.nan
