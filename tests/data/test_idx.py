from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bnas.data import DataConfig, load_data
from bnas.data.in_memory import InMemoryImages
from bnas.errors import DataError

TRAIN, TEST = 40, 20


def idx(magic: int, shape: tuple[int, ...], data: bytes) -> bytes:
    return struct.pack(f">I{len(shape)}I", magic, *shape) + data


def write(folder: Path, *, packed: bool = False) -> Path:
    """A set of 4 x 4 images whose pixels are all their label, labels 0 to 9 in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, n in (("train", TRAIN), ("t10k", TEST)):
        labels = bytes(i % 10 for i in range(n))
        pixels = b"".join(bytes([label]) * 16 for label in labels)
        for kind, data in (
            ("images-idx3", idx(0x803, (n, 4, 4), pixels)),
            ("labels-idx1", idx(0x801, (n,), labels)),
        ):
            name = f"{prefix}-{kind}-ubyte"
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (folder / name).write_bytes(data)
    return folder


def config(root: Path | None) -> DataConfig:
    return DataConfig(name="fashion_mnist", root=None if root is None else str(root), size=8, val_images=10)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("folder", [".", "FashionMNIST/raw"])
def test_both_layouts_are_read_packed_or_not(tmp_path: Path, folder: str, packed: bool) -> None:
    write(tmp_path / folder, packed=packed)
    data = load_data(config(tmp_path))
    assert (len(data.train), len(data.val), len(data.test)) == (30, 10, 20)
    for split in (data.train, data.val, data.test):
        assert isinstance(split, InMemoryImages)
        assert torch.equal(split.pixels[:, 0, 0].long(), split.labels)
        assert torch.equal(split.pixels[:, 3, 3].long(), split.labels)


def remove(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte").unlink()


def truncate(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(folder: Path) -> None:
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes() + b"\0")


def truncate_packed(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte"
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes())[:-20])
    path.unlink()


def no_gzip(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte").rename(folder / "train-images-idx3-ubyte.gz")


def swap(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte").write_bytes((folder / "train-labels-idx1-ubyte").read_bytes())


def empty(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte").write_bytes(b"")


def fewer_labels(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(0x801, (2,), b"\0\1"))


def wrong_label(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(0x801, (TEST,), bytes([10] * TEST)))


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (remove, "holds neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz"),
        (truncate, "train-images-idx3-ubyte: its header says 640 bytes of data, it holds 639"),
        (lengthen, "train-labels-idx1-ubyte: its header says 40 bytes of data, it holds 41"),
        (truncate_packed, "train-images-idx3-ubyte.gz: cannot be read: .*ended before"),
        (no_gzip, "train-images-idx3-ubyte.gz: cannot be read: Not a gzipped file"),
        (swap, "train-images-idx3-ubyte: no IDX file .* must start with 00000803, it starts with 00000801"),
        (empty, "train-images-idx3-ubyte: no IDX file .* it starts with nothing"),
        (fewer_labels, "train-images-idx3-ubyte holds 40 images, .*train-labels-idx1-ubyte holds 2 labels"),
        (wrong_label, "t10k-labels-idx1-ubyte: labels must be 0 to 9, found 10"),
    ],
)
def test_damage_is_one_error_that_names_the_file(
    tmp_path: Path, damage: Callable[[Path], None], text: str
) -> None:
    damage(write(tmp_path))
    with pytest.raises(DataError, match=text) as caught:
        load_data(config(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"data.root: no such folder: {tmp_path}/nowhere"):
        load_data(config(tmp_path / "nowhere"))


def test_without_a_root_it_says_where_the_set_comes_from() -> None:
    with pytest.raises(DataError, match=r"needs data.root=FOLDER.*apt install dataset-fashion-mnist"):
        load_data(config(None))


@pytest.mark.skipif(
    "BNAS_FASHION_MNIST" not in os.environ,
    reason="BNAS_FASHION_MNIST is not set to the full Fashion-MNIST folder",
)
def test_the_full_set_is_read() -> None:
    data = load_data(DataConfig(name="fashion_mnist", root=os.environ["BNAS_FASHION_MNIST"]))
    assert [len(split) for split in (data.train, data.val, data.test)] == [58_000, 2_000, 10_000]
