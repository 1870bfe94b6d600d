"""Small photographs decoded once: a file of pixels that is mapped into memory and read from then on.

What differs from decoding anew: a random crop is cut out of the resized, centre-cropped square that the file
holds, not out of the whole photograph, and is resized a second time; it sees less at the long sides' ends and
is a little softer. Centre crops, which evaluation uses, are the same bit by bit.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

import numpy as np
from PIL import Image
from torch import Tensor

from bnas import progress
from bnas.data.crops import Crops, decoders, read_rgb
from bnas.errors import DataError
from bnas.files import cannot_write

if TYPE_CHECKING:
    from bnas.data.splits import Batch

_VERSION = 1  # raise it when the same files give other pixels
_AT_ONCE = 256  # images decoded before they are written: bounds the memory taken


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedImages:
    """Squares `pixels` uint8 [n, side, side, 3], side = crops.resized, with `labels` int64 [n]."""

    pixels: np.ndarray
    labels: Tensor
    classes: tuple[str, ...]
    crops: Crops

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.crops.shape

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Sequence[int], *, augment: int | None = None, first: int = 0) -> Batch:
        """As `Images.batch`; the same seed and place draw the same numbers as for `FolderImages`."""

        def load(index: int) -> Image.Image:
            return Image.fromarray(self.pixels[index])

        return self.crops.batch(load, indices, augment=augment, first=first), self.labels[list(indices)]


def cached_pixels(paths: Sequence[Path], crops: Crops, folder: Path) -> np.ndarray:
    """The squares of the image files as uint8 [n, side, side, 3], mapped into memory from a file in `folder`.

    The file is written by the first process that asks, while others wait; its name has a digest of the
    paths, sizes and times of change of the images, so that changed images get a new file. Files of former
    images stay until they are deleted by hand. A file takes 3 side² bytes per image.

    Raises:
        DataError: an image is missing or damaged, the disk is too small, or the file is damaged.
        RunError: the file cannot be written.
    """
    shape = (len(paths), crops.resized, crops.resized, 3)
    path = folder / f"{len(paths)}x{crops.resized}px-{_digest(paths, crops.resized)}.npy"
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _only_one(folder) as alone:
                if not path.exists():
                    _write(path, paths, crops, shape, alone=alone)
        except OSError as error:
            cannot_write(path, error.strerror or str(error), error)
    try:
        pixels = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: is damaged ({error}); delete it, and it is written again") from error
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise DataError(f"{path}: is damaged (shape {pixels.shape}); delete it, and it is written again")
    return np.asarray(pixels)  # as a plain array, whose rows are faster to get at


def _digest(paths: Sequence[Path], side: int) -> str:
    """16 hex characters that change with any of the files, their order, or the side."""
    sha = hashlib.sha256(f"{_VERSION} {side}".encode())
    for path in paths:
        try:
            found = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read as an image: {error}") from error
        sha.update(f"\n{os.path.abspath(path)}\0{found.st_size}\0{found.st_mtime_ns}".encode())
    return sha.hexdigest()[:16]


def _write(
    path: Path, paths: Sequence[Path], crops: Crops, shape: tuple[int, int, int, int], *, alone: bool
) -> None:
    """Decode all images into a file beside `path`, then rename it: what has the name is whole.

    Unlike the short files of a run, it may be hours' work, and a Ctrl-C stops it at once.
    """
    if alone:
        for leftover in path.parent.glob(f"{path.stem}.*.partial"):  # of a process that was killed
            leftover.unlink()
    needed, free = int(np.prod(shape, dtype=object)), shutil.disk_usage(path.parent).free
    if needed > free:
        raise DataError(
            f"data.cache={path.parent}: {len(paths)} images of {shape[1]}x{shape[1]} pixels take "
            f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; free some space, or unset data.cache"
        )
    aside = path.with_name(f"{path.stem}.{socket.gethostname()}-{os.getpid()}.partial")
    try:
        with open(aside, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            _fill(file, paths, crops)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _fill(file: BinaryIO, paths: Sequence[Path], crops: Crops) -> None:
    def square(path: Path) -> bytes:
        return crops.square(read_rgb(path)).tobytes()

    with progress.bar(f"decoding images to {Path(file.name).parent}", len(paths)) as advance:
        for begin in range(0, len(paths), _AT_ONCE):
            chunk = paths[begin : begin + _AT_ONCE]
            for pixels in decoders(crops.threads).map(square, chunk):
                file.write(pixels)
            advance(len(chunk))


@contextmanager
def _only_one(folder: Path) -> Iterator[bool]:
    """Wait until no other process writes into `folder`; whether that can be known on its file system."""
    with open(folder / ".lock", "a") as file:
        yield _lock(file)


def _lock(file: TextIO) -> bool:
    """Lock the file until it is closed, or its process ends; False where there are no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        progress.say(f"waiting for another process that decodes images to {Path(file.name).parent}")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # some network file systems have none
        return False
    return True
