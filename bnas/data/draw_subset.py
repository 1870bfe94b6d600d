"""Draw the embedded subset again: `python -m bnas.data.draw_subset ROOT [TARGET]`, ROOT as for data.root."""

from __future__ import annotations

import gzip
import io
import struct
import sys
from pathlib import Path

import numpy as np

from bnas.data.embedded import FOLDER
from bnas.data.idx import read_split
from bnas.data.splits import stratified

SEED = 0
COUNTS = {"train": 12_000, "t10k": 2_000}


def draw(root: Path, target: Path) -> None:
    """Write the four IDX files of the subset of the full set in `root` into the folder `target`.

    Each split keeps its balance of classes and the order of its images.

    Raises:
        DataError: the full set is missing or damaged.
    """
    target.mkdir(parents=True, exist_ok=True)
    for place, (prefix, count) in enumerate(COUNTS.items()):
        images, labels = read_split(root, prefix)
        chosen = stratified(labels, count, np.random.default_rng([SEED, place]))
        for kind, part in (("images-idx3", images[chosen]), ("labels-idx1", labels[chosen])):
            (target / f"{prefix}-{kind}-ubyte.gz").write_bytes(idx_gz(part))


def idx_gz(array: np.ndarray) -> bytes:
    """The uint8 `array` as a gzipped IDX file without name or time: equal arrays give equal bytes."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=9, mtime=0) as file:
        file.write(bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape))
        file.write(array.tobytes())
    return packed.getvalue()


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else FOLDER)
