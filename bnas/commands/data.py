"""`bnas data openimages-mlperf BOXES.csv CLASSES.csv IMAGES`: prepares a data set from files the user has."""

from __future__ import annotations

import os
from pathlib import Path

from bnas import progress
from bnas.commands.invocation import Invocation
from bnas.data.openimages import drawn_for_calibration, prepare_openimages_mlperf
from bnas.errors import ConfigError, DataError, did_you_mean
from bnas.files import write_text

_WHAT = "openimages-mlperf"
_USAGE = (
    f"python -m bnas data {_WHAT} validation-annotations-bbox.csv class-descriptions-boxable.csv "
    "ROOT/validation/data [out=FILE.json] [calibration=500]"
)
_CALIBRATION = 500  # images, as MLPerf's own list has
_NOT_DRAWN = ("validation", "test", "calibration")  # the last are all for it
_NAMES = {"train": f"{_WHAT}-train", "validation": _WHAT, "calibration": f"{_WHAT}-calibration"}


def command(invocation: Invocation) -> None:
    """Make what the words after `data` name; downloads nothing.

    Without `out`, the file goes where `data=openimages_mlperf` looks for it: the images of ROOT/train/data
    or ROOT/validation/data are described in ROOT/annotations. `calibration` images are listed beside it, by
    default 500, but none of validation images, which serve the report alone.

    Raises:
        ConfigError: other words than these.
        DataError: a file is missing or damaged.
        RunError: a file cannot be written.
    """
    what, *paths = invocation.arguments or ("",)
    if what != _WHAT:
        raise ConfigError(
            f"data: which one? as in: {_USAGE}"
            if not what
            else f"data: no '{what}'{did_you_mean(what, [_WHAT])}"
        )
    if len(paths) != 3:
        raise ConfigError(
            f"data {_WHAT}: expected two CSV files and a folder, got {len(paths)} words: {_USAGE}"
        )
    options = dict(word.partition("=")[::2] for word in invocation.overrides)
    for option in options.keys() - {"out", "calibration"}:
        raise ConfigError(f"{option}: no such option{did_you_mean(option, ['out', 'calibration'])}")
    boxes, classes, folder = (Path(path).expanduser() for path in paths)
    split = _split(folder)
    out = Path(options["out"]).expanduser() if options.get("out") else _annotations(folder, split)
    wanted = options.get("calibration", "0" if split in _NOT_DRAWN else str(_CALIBRATION))
    if not wanted.isdigit():
        raise ConfigError(f"calibration: expected how many images, got '{wanted}'")
    if out.is_dir():
        raise DataError(f"out={out}: is a folder; give the name of a file, as {out / _WHAT}.json")
    made = prepare_openimages_mlperf(boxes, classes, folder, out)
    line = f"{len(made.names)} images, {made.boxes} boxes of the 264 classes → {out}"
    if made.absent:
        line += f"; {made.absent} images with such boxes are not in {folder}"
    if int(wanted):
        names = drawn_for_calibration(made.names, int(wanted))
        listed = out.with_name(f"{out.stem.removesuffix('-train')}-calibration.txt")
        write_text(listed, "".join(f"{name}\n" for name in names))
        line += f"; {len(names)} of them for data.calibration → {listed}"
    progress.say(line)


def _split(folder: Path) -> str:
    """The split whose images these are, as their folder is called, or the one around it."""
    here = _absolute(folder)
    return here.parent.name if here.name == "data" else here.name


def _annotations(folder: Path, split: str) -> Path:
    here = _absolute(folder)
    root = here.parent.parent if here.name == "data" else here.parent
    return root / "annotations" / f"{_NAMES.get(split, f'{_WHAT}-{split}')}.json"


def _absolute(folder: Path) -> Path:
    """As it was named: where a link leads says nothing of the split."""
    return Path(os.path.abspath(folder))
