"""A data set of the accuracy checker's configuration: images and labels, the reader, the steps and the metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnas.accuracy.accuracy import TopK
from bnas.accuracy.annotations import Samples, in_class_folders, listed
from bnas.accuracy.keys import Keys, items_of, text_of, truth_of, whole_of
from bnas.accuracy.preprocess import READERS, Step, read_steps
from bnas.errors import ConfigError, DataError, did_you_mean

# What Open Model Zoo's dataset_definitions.yml says about ImageNet, for those who do not have it at hand.
KNOWN: dict[str, dict[str, Any]] = {
    f"imagenet_{1000 + background}_classes{year}": {
        "annotation_conversion": {
            "converter": "imagenet",
            "annotation_file": f"val{year[3:]}.txt",
            "has_background": bool(background),
        },
        "data_source": "ILSVRC2012_img_val",
    }
    for background in (0, 1)
    for year in ("", "_2015")
}
_OTHER_TASK = "top-1 and top-5 of classifiers are checked here"

_DATASET = Keys(
    used=(
        "name", "data_source", "annotation", "annotation_conversion", "reader", "preprocessing", "metrics",
        "subsample_size", "batch",
    ),
    noted={
        "dataset_meta": "classes are counted by the network's scores",
        "analyze_dataset": "images are not analysed",
        "shuffle": "the order of the images changes nothing",
        "subsample_seed": "the images are spread evenly, not drawn",
        "store_subset": "the same images are taken each time",
    },
    refused={
        "postprocessing": _OTHER_TASK,
        "segmentation_masks_source": _OTHER_TASK,
        "additional_data_source": _OTHER_TASK,
        "subset_file": "give a list with these images alone as annotation_file",
    },
)  # fmt: skip
_CONVERSION = Keys(
    used=("converter", "annotation_file", "labels_file", "has_background", "data_dir"),
    noted={
        "images_dir": "the images are those of data_source",
        "dataset_meta_file": "classes are counted by the network's scores",
    },
)
_METRIC = Keys(
    used=("type", "name", "top_k", "reference"),
    noted=dict.fromkeys(
        ("presenter", "threshold", "abs_threshold", "rel_threshold"), "the interval says how sure it is"
    ),
    refused=dict.fromkeys(("match", "cast_to_int", "label_map"), _OTHER_TASK),
)
_READER_OPTIONS: dict[str, dict[str, Any]] = {
    "pillow_imread": {"to_rgb": True},
    "opencv_imread": {"reading_flag": "color"},
}
_OTHER_READERS = dict.fromkeys(
    ("scipy_imread", "skimage_imread", "tf_imread"), "; use pillow_imread, which gives RGB too"
)


@dataclass(frozen=True, kw_only=True)
class Places:
    """The folders -s, -m and -a and the file -d of the accuracy checker's command line; -m and -a may be files."""

    source: Path | None = None
    models: Path | None = None
    annotations: Path | None = None
    definitions: Path | None = None


@dataclass(frozen=True, kw_only=True)
class CheckedData:
    """A data set, found and read but for its images."""

    name: str
    samples: Samples
    folder: Path
    reader: str
    steps: tuple[Step, ...]
    metrics: tuple[TopK, ...]
    batch: int | None = None
    notes: tuple[str, ...] = ()


def read_dataset(entry: Any, where: str, places: Places) -> CheckedData:
    """The data set of one entry of `datasets`, its list of images read and each found.

    Raises:
        ConfigError: an option that cannot be done here, or a wrong value.
        DataError: a file or folder is missing, or list and folder do not fit.
    """
    options, notes = _DATASET.check(entry, where)
    name = text_of(options, "name", where)
    if name is None:
        raise ConfigError(f"{where}.name: missing")
    assumed = name in KNOWN and "annotation_conversion" not in options
    options = {**KNOWN.get(name, {}), **options}
    reader = _reader(options.get("reader", "opencv_imread"), f"{where}.reader")
    steps = read_steps(options.get("preprocessing", []), f"{where}.preprocessing")
    metrics, more = _metrics(options, where)
    notes += more
    folder = _under(places.source, text_of(options, "data_source", where))
    samples, more = _samples(options, where, folder, places, assumed=assumed)
    notes += more
    count = _subset(options.get("subsample_size"), len(samples), f"{where}.subsample_size")
    if count is not None:
        notes += (f"{where}.subsample_size: {count} images spread evenly over all {len(samples)}",)
    return CheckedData(
        name=name,
        samples=samples.spread(count),
        folder=folder,
        reader=reader,
        steps=steps,
        metrics=metrics,
        batch=whole_of(options, "batch", where),
        notes=notes,
    )


def _samples(
    options: Mapping[str, Any], where: str, folder: Path, places: Places, *, assumed: bool
) -> tuple[Samples, tuple[str, ...]]:
    """The images and labels: by a list given with -a, by annotation_conversion, or by the folders of the classes.

    `assumed`: nobody asked for this annotation_conversion; it is what is known of the data set.
    """
    own, notes = _CONVERSION.check(options.get("annotation_conversion", {}), f"{where}.annotation_conversion")
    place = f"{where}.annotation_conversion"
    background = truth_of(own, "has_background", place)
    converter = own.get("converter")
    if converter == "cls_dataset_folder":
        return in_class_folders(
            _under(places.source, text_of(own, "data_dir", place)) if "data_dir" in own else folder,
            has_background=background,
        ), notes
    if converter not in (None, "imagenet"):
        known = ("imagenet", "cls_dataset_folder")
        raise ConfigError(
            f"{place}.converter: {converter!r} is not read here{did_you_mean(str(converter), known)}; "
            "any labels can be written as a list of `name label` for the converter imagenet"
        )
    name, annotation = text_of(own, "annotation_file", place), text_of(options, "annotation", where)
    if annotation is not None and Path(annotation).suffix == ".txt" and (name is None or assumed):
        name, annotation = annotation, None
    file = _list(name, places)
    if file is None:
        by_folders = (name is None or assumed) and "data_source" in options
        if by_folders and folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir()):
            more = (f"{where}: no list of images; labels by the class folders of {folder}, in order of name",)
            return in_class_folders(folder, has_background=background), (*notes, *more)
        raise _no_list(annotation, name, where, places)
    if annotation is not None:
        notes += (f"{where}.annotation: {annotation}: not read; labels are those of {file}",)
    labels_file = text_of(own, "labels_file", place)
    return listed(
        file,
        folder,
        has_background=background,
        labels_file=None if labels_file is None else _first(labels_file, places),
    ), notes


def _list(name: str | None, places: Places) -> Path | None:
    """The list of images: the file -a, or `name` (val.txt without one) under -s, -a or here; None if there is none."""
    if places.annotations is not None and places.annotations.is_file():
        if places.annotations.suffix in (".pickle", ".pkl"):
            raise _pickled(places.annotations, "-a")
        return places.annotations
    if name is not None and Path(name).suffix in (".pickle", ".pkl"):
        raise _pickled(Path(name), "annotation_file")
    file = _first(name or "val.txt", places)
    return file if file.is_file() and (name or places.annotations) else None


def _first(name: str, places: Places) -> Path:
    """`name` under -s, else under -a, else as it is."""
    tried = [_under(folder, name) for folder in (places.source, places.annotations) if folder is not None]
    return next((file for file in tried if file.is_file()), tried[0] if tried else Path(name))


def _no_list(annotation: str | None, name: str | None, where: str, places: Places) -> Exception:
    if annotation is not None:
        return _pickled(_under(places.annotations, annotation), f"{where}.annotation")
    if name is not None:
        return DataError(
            f"{where}.annotation_conversion.annotation_file: there is no {_first(name, places)}; give the list of "
            "images and labels (ImageNet's val.txt) with -a FILE"
        )
    return ConfigError(
        f"{where}.annotation_conversion: missing; give the list of images and labels with -a FILE"
    )


def _pickled(file: Path, where: str) -> ConfigError:
    return ConfigError(
        f"{where}: {file} is not read: a pickle can run any program when it is opened; give what it was made "
        "from, ImageNet's val.txt, with -a val.txt or as annotation_conversion: {converter: imagenet, "
        "annotation_file: val.txt}"
    )


def _reader(entry: Any, where: str) -> str:
    options = {"type": entry} if isinstance(entry, str) else entry
    kind = str(options.get("type")) if isinstance(options, Mapping) else str(options)
    if kind not in READERS:
        hint = _OTHER_READERS.get(kind, did_you_mean(kind, READERS))
        raise ConfigError(f"{where}: images are not read by {kind!r} here{hint}")
    for key, value in options.items():
        if key == "type" or (key == "multi_infer" and value is False):
            continue
        if _READER_OPTIONS[kind].get(key) != value:
            raise ConfigError(f"{where}.{key}: {value!r} cannot be done here: images are read in colour")
    return kind


def _metrics(options: Mapping[str, Any], where: str) -> tuple[tuple[TopK, ...], tuple[str, ...]]:
    if "metrics" not in options:
        return (), (f"{where}.metrics: none; top-1 and top-5 are counted",)
    metrics: list[TopK] = []
    notes: tuple[str, ...] = ()
    for index, entry in enumerate(items_of(options, "metrics", where)):
        place = f"{where}.metrics[{index}]"
        own, more = _METRIC.check(entry, place)
        notes += more
        if own.get("type", "accuracy") != "accuracy":
            raise ConfigError(
                f"{place}.type: {own['type']!r} is not counted here; there is accuracy, with top_k"
            )
        reference = own.get("reference")
        if reference is not None and not (isinstance(reference, (int, float)) and 0 <= reference <= 1):
            raise ConfigError(f"{place}.reference: expected a share from 0 to 1, got {reference!r}")
        metrics.append(
            TopK(
                k=whole_of(own, "top_k", place) or 1,
                name=text_of(own, "name", place) or "",
                reference=reference,
            )
        )
    return tuple(metrics), notes


def _subset(value: Any, images: int, where: str) -> int | None:
    """How many images a subsample_size is, such as 500 or "10%"."""
    if value is None:
        return None
    percent = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", str(value))
    count = round(images * float(percent[1]) / 100) if percent else value
    if isinstance(count, str) and count.strip().isdecimal():
        count = int(count)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ConfigError(f"{where}: expected a number of images, or a part as 10%, got {value!r}")
    return count


def _under(folder: Path | None, name: str | None) -> Path:
    return (folder or Path()) / (name or "")
