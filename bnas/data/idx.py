"""Fashion-MNIST in its own IDX files (http://yann.lecun.com/exdb/mnist/ describes the format)."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from bnas.data.in_memory import grey_splits
from bnas.data.splits import DataConfig, ImageSplits
from bnas.errors import DataError

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
MEAN, STD = 0.2860, 0.3530  # grey levels of the 60 000 training images
_FILES = "{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]"


def read_idx(path: Path, *, axes: int) -> np.ndarray:
    """The uint8 array with `axes` axes in the IDX file at `path`, compressed by gzip when named .gz.

    Raises:
        DataError: the file cannot be read, is no such IDX file, or is longer or shorter than its header says.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    header = 4 + 4 * axes
    if len(data) < header or data[:4] != bytes((0, 0, 8, axes)):
        raise DataError(
            f"{path}: no IDX file of bytes with {axes} axes: it must start with 0000080{axes}, "
            f"it starts with {data[:4].hex() or 'nothing'}"
        )
    shape = struct.unpack(f">{axes}I", data[4:header])
    expected, got = int(np.prod(shape, dtype=object)), len(data) - header
    if expected != got:
        raise DataError(f"{path}: its header says {expected} bytes of data, it holds {got}: copy it again")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def read_split(folder: Path, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [n, H, W] and labels uint8 [n] of the split `prefix` ("train", "t10k") in `folder`.

    Raises:
        DataError: a file is missing or damaged, or the two do not belong together.
    """
    images_path, labels_path = (
        _plain_or_gz(folder / f"{prefix}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")
    )
    images, labels = read_idx(images_path, axes=3), read_idx(labels_path, axes=1)
    if len(images) != len(labels) or len(labels) == 0:
        raise DataError(f"{images_path} holds {len(images)} images, {labels_path} holds {len(labels)} labels")
    if labels.max() >= len(CLASSES):
        raise DataError(f"{labels_path}: labels must be 0 to {len(CLASSES) - 1}, found {labels.max()}")
    return images, labels


def load_fashion_mnist(config: DataConfig) -> ImageSplits:
    """The full set: 60 000 training images (val is drawn off them) and 10 000 test images.

    The four files lie in `config.root` itself (Debian's package dataset-fashion-mnist) or in its
    FashionMNIST/raw (torchvision's download), compressed or not.

    Raises:
        DataError: the folder or a file is missing or damaged, or holds fewer images than asked for.
    """
    if config.root is None:
        raise DataError(
            f"data.name={config.name} needs data.root=FOLDER: the folder with {_FILES} (Debian: "
            "`apt install dataset-fashion-mnist`), or the root of torchvision's download"
        )
    root = Path(config.root).expanduser()
    if not root.is_dir():
        raise DataError(f"data.root: no such folder: {root}")
    raw = root / "FashionMNIST" / "raw"
    folder = raw if raw.is_dir() else root
    return grey_splits(
        read_split(folder, "train"), read_split(folder, "t10k"), CLASSES, config, mean=MEAN, std=STD
    )


def _plain_or_gz(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    for candidate in (path, packed):
        if candidate.is_file():
            return candidate
    raise DataError(f"{path.parent} holds neither {path.name} nor {packed.name}; expected there: {_FILES}")
