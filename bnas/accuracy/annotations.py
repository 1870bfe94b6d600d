"""Which class each image is of: ImageNet's list in a text, or a folder per class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnas.data.folder import SUFFIXES
from bnas.errors import DataError

_SHOWN = 3  # missing files that an error names


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Image files `paths` and the class of each; `classes` are their names, none where no file gives them."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def spread(self, count: int | None) -> Samples:
        """`count` of them, evenly spread over all: the same ones each time; None, or more than there are: all."""
        if count is None or count >= len(self):
            return self
        chosen = [place * len(self) // count for place in range(count)]
        return Samples(
            paths=tuple(self.paths[i] for i in chosen),
            labels=tuple(self.labels[i] for i in chosen),
            classes=self.classes,
        )


def listed(
    annotation: Path, folder: Path, *, has_background: bool = False, labels_file: Path | None = None
) -> Samples:
    """The images in `folder` that a text as ImageNet's val.txt lists: `name label` on each line.

    A name may have folders in front, which count only where the file is not in `folder` itself. `has_background`: class
    0 is the background, and every label of the text one less than the network's class.

    Raises:
        DataError: the text, the folder or an image is missing, or a line is no name and label; names it.
    """
    if not folder.is_dir():
        raise DataError(
            f"data_source: no such folder: {folder}; the images listed in {annotation} belong there"
        )
    names, labels = [], []
    for number, line in enumerate(_lines(annotation), start=1):
        if not line.strip():
            continue
        name, label = (*line.rsplit(None, 1), "")[:2]
        if not label.isdecimal():
            raise DataError(
                f"{annotation}, line {number}: expected a file name and the number of its class, got "
                f"{line.strip()[:80]!r}"
            )
        names.append(name.strip())
        labels.append(int(label) + has_background)
    if not names:
        raise DataError(f"{annotation}: lists no image; expected `name label` on each line")
    classes = names_of_classes(labels_file, has_background=has_background) if labels_file else ()
    paths = _found(names, folder, annotation)
    for path, own in zip(paths, labels, strict=True):
        if classes and own >= len(classes):
            raise DataError(
                f"{annotation}: {path.name} is of class {own - has_background}, but {labels_file} names "
                f"{len(classes) - has_background} classes, 0 to {len(classes) - 1 - has_background}"
            )
    return Samples(paths=paths, labels=tuple(labels), classes=classes)


def in_class_folders(folder: Path, *, has_background: bool = False) -> Samples:
    """All images of folder/<class>/, classes in the order of their names, as torchvision has them.

    Raises:
        DataError: there is no such folder, no class folder in it, or a class folder without an image.
    """
    if not folder.is_dir():
        raise DataError(f"data_source: no such folder: {folder}")
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not names:
        raise DataError(f"{folder}: no class folder in it; give a list of images and labels with -a FILE")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names, start=int(has_background)):
        images = sorted(file for file in os.listdir(folder / name) if Path(file).suffix.lower() in SUFFIXES)
        if not images:
            raise DataError(f"{folder / name}: class folder without an image ({', '.join(sorted(SUFFIXES))})")
        paths += [folder / name / image for image in images]
        labels += [label] * len(images)
    classes = (*(("background",) if has_background else ()), *names)
    return Samples(paths=tuple(paths), labels=tuple(labels), classes=classes)


def names_of_classes(file: Path, *, has_background: bool = False) -> tuple[str, ...]:
    """The names in a labels file (synset_words.txt: what follows the first blank; else the line), by class.

    Raises:
        DataError: the file is missing, no text, or empty.
    """
    lines = [line.strip() for line in _lines(file) if line.strip()]
    if not lines:
        raise DataError(f"{file}: names no class; expected one on each line")
    names = [line.partition(" ")[2] or line for line in lines]
    return ("background", *names) if has_background else tuple(names)


def _found(names: Sequence[str], folder: Path, annotation: Path) -> tuple[Path, ...]:
    """The files called so in `folder`, its listing read once: ImageNet has 50 000."""
    there = set(os.listdir(folder))
    paths, missing = [], []
    for name in names:
        own = Path(name).name.rpartition("@")[2]  # as the accuracy checker cuts names of archives
        if own in there:
            paths.append(folder / own)
        elif own != name and (folder / name).is_file():
            paths.append(folder / name)
        else:
            missing.append(name)
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
        some = next(iter(sorted(there)), None)
        hint = f"; the folder holds {some} and others: is it the right one?" if some else "; it is empty"
        raise DataError(
            f"{folder}: {len(missing)} of the {len(names)} images that {annotation} lists are missing: {shown}"
            f"{hint if not paths else '; add them, or take their lines out of the list'}"
        )
    return tuple(paths)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"{file} {reason}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is no text; expected `name label` on each line, as ImageNet's val.txt"
        ) from error
