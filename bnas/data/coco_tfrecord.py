"""Images with boxes in TFRecord files, as TensorFlow's Object Detection API writes COCO."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bnas import progress
from bnas.data.box_table import box_table, check_sizes
from bnas.data.boxed_images import StoredScenes
from bnas.data.boxed_splits import boxed_splits, folder_of
from bnas.data.crops import read_rgb
from bnas.data.splits import DataConfig, ImageSplits
from bnas.data.tfrecord import Feature, example, record, records
from bnas.errors import DataError

_LAYOUT = (
    "expected there: files whose names hold train, or val, and record, as coco_train.record-00000-of-00100"
)
_ENCODED, _NAME, _BOX = "image/encoded", "image/filename", "image/object/bbox/"
_LABEL, _TEXT = "image/object/class/label", "image/object/class/text"
_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class RecordImage:
    """The image in one record of a file."""

    path: Path
    start: int
    length: int
    name: str

    def image(self) -> Image.Image:
        """Raises DataError: the record is damaged, or holds no image."""
        features = _example(record(self.path, self.start, self.length), self.path, self.start)
        encoded = features.get(_ENCODED)
        if not isinstance(encoded, list) or not encoded:
            raise DataError(f"{self.path}: the record at byte {self.start} has no {_ENCODED}")
        return read_rgb(Path(f"{self.path} ({self.name})"), encoded[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """Images of records; `labels` are still ids of categories, whose names are in `names` where there are any."""

    scenes: StoredScenes
    names: dict[int, str]


def read_records(paths: Sequence[Path]) -> Recorded:
    """The images and boxes in the files, in their order; labels are the files' own ids.

    Raises:
        DataError: a file is missing or damaged, or a record has no image or unequal numbers of coordinates.
    """
    sources: list[RecordImage] = []
    sizes: list[tuple[int, int]] = []
    parts: dict[str, list[np.ndarray]] = {key: [] for key in ("corners", "label", "crowd", "area")}
    names: dict[int, str] = {}
    with progress.bar("reading TFRecord files", len(paths)) as advance:
        for path in paths:
            for start, data in records(path):
                features = _example(data, path, start)
                width, height = _size(features, path, start)
                corners = _corners(features, path, start)
                labels = _numbers(features, _LABEL)
                texts = features.get(_TEXT, [])
                if len(labels) != len(corners):
                    raise DataError(
                        f"{path}: the record at byte {start} has {len(corners)} boxes and {len(labels)} labels"
                    )
                for label, text in zip(labels.tolist(), texts, strict=False):
                    if isinstance(text, bytes):
                        names[label] = text.decode("utf-8", "replace")
                sources.append(
                    RecordImage(path, start, len(data), _text(features, _NAME) or f"record {start}")
                )
                sizes.append((width, height))
                parts["corners"].append(corners * [width, height, width, height])
                parts["label"].append(labels)
                parts["crowd"].append(_optional(features, "image/object/is_crowd", len(labels), 0))
                parts["area"].append(_optional(features, "image/object/area", len(labels), np.nan))
            advance()
    if not sources:
        raise DataError(f"{', '.join(map(str, paths[:3]))}: no image in it")
    folder = paths[0].parent
    size = np.array(sizes, np.int64)
    check_sizes(folder, size, [source.name for source in sources])
    table = box_table(
        folder,
        sizes=size,
        images=np.repeat(np.arange(len(sources)), [len(own) for own in parts["label"]]),
        corners=np.concatenate(parts["corners"]),
        labels=np.concatenate(parts["label"]),
        crowd=np.concatenate(parts["crowd"]) > 0,
        areas=np.concatenate(parts["area"]),
    )
    return Recorded(scenes=StoredScenes(sources=tuple(sources), table=table), names=names)


def load_coco_tfrecord(config: DataConfig) -> ImageSplits:
    """The TFRecord files in `config.root`: val is drawn off those of train, test are those of val.

    Classes are the ids that occur in either, in ascending order; they have the names that the records or a
    label map (*.pbtxt in the folder) give them, else their ids.

    Raises:
        DataError: files are missing or damaged, or hold fewer images than asked for.
    """
    root = folder_of(config, _LAYOUT)
    found = [path for path in sorted(root.iterdir()) if path.is_file() and "record" in path.name]
    parts = [[path for path in found if split in path.name] for split in ("train", "val")]
    for split, paths in zip(("train", "val"), parts, strict=True):
        if not paths:
            raise DataError(f"data.root={root}: no TFRecord file of {split} in it; {_LAYOUT}")
    train, test = (read_records(paths) for paths in parts)
    mapped = _label_map(root)
    ids = sorted(set(mapped) or {*train.scenes.table.labels.tolist(), *test.scenes.table.labels.tolist()})
    names = train.names | test.names | mapped
    classes = tuple(names.get(label, str(label)) for label in ids)
    return boxed_splits(
        config, _labelled(train.scenes, ids, root), _labelled(test.scenes, ids, root), classes
    )


def _labelled(scenes: StoredScenes, ids: Sequence[int], root: Path) -> StoredScenes:
    table = scenes.table
    unknown = sorted(set(table.labels.tolist()) - set(ids))
    if unknown:
        raise DataError(f"{root}: boxes have the label {unknown[0]}, which is not in the label map")
    return StoredScenes(
        sources=scenes.sources, table=table.relabelled(np.searchsorted(np.array(ids, np.int64), table.labels))
    )


def _label_map(root: Path) -> dict[int, str]:
    """Names by id of the label map, a text of `item { id: 1 name: "person" }`; display_name is preferred."""
    found = sorted(root.glob("*.pbtxt"))
    if not found:
        return {}
    names = {}
    for item in re.findall(r"item\s*\{(.*?)\}", found[0].read_text(encoding="utf-8"), re.DOTALL):
        values = dict(re.findall(r"(\w+)\s*:\s*[\"']?([^\"'\n]*?)[\"']?\s*(?:$|\n|(?=\b\w+\s*:))", item))
        if values.get("id", "").isdigit():
            names[int(values["id"])] = values.get("display_name") or values.get("name") or values["id"]
    return names


def _example(data: bytes, path: Path, start: int) -> dict[str, Feature]:
    try:
        return example(data)
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: the record at byte {start} is no tf.train.Example, or damaged: {error}"
        ) from error


def _size(features: dict[str, Feature], path: Path, start: int) -> tuple[int, int]:
    width, height = (_numbers(features, f"image/{side}") for side in ("width", "height"))
    if len(width) == len(height) == 1:
        return int(width[0]), int(height[0])
    encoded = features.get(_ENCODED)
    if not isinstance(encoded, list) or not encoded:
        raise DataError(f"{path}: the record at byte {start} has no {_ENCODED}")
    return read_rgb(path, encoded[0]).size


def _corners(features: dict[str, Feature], path: Path, start: int) -> np.ndarray:
    sides = [_floats(features, _BOX + side) for side in _SIDES]
    if len({len(side) for side in sides}) > 1:
        raise DataError(f"{path}: the record at byte {start} has unequal numbers of coordinates")
    return np.stack(sides, 1)


def _floats(features: dict[str, Feature], key: str) -> np.ndarray:
    return np.asarray(_array(features, key), np.float64)


def _numbers(features: dict[str, Feature], key: str) -> np.ndarray:
    return np.asarray(_array(features, key), np.int64)


def _array(features: dict[str, Feature], key: str) -> np.ndarray:
    value = features.get(key)
    return value if isinstance(value, np.ndarray) else np.empty(0)


def _optional(features: dict[str, Feature], key: str, n: int, default: float) -> np.ndarray:
    value = _floats(features, key)
    return value if len(value) == n else np.full(n, default)


def _text(features: dict[str, Feature], key: str) -> str:
    value = features.get(key)
    return value[0].decode("utf-8", "replace") if isinstance(value, list) and value else ""
