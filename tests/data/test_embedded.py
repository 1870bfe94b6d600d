from __future__ import annotations

import hashlib
import time

import torch

from bnas.data import DataConfig, load_data
from bnas.data.embedded import FOLDER
from bnas.data.in_memory import InMemoryImages


def pixels_digests(images: object) -> set[str]:
    assert isinstance(images, InMemoryImages)
    return {hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in images.pixels}


def test_the_embedded_set_has_three_balanced_splits() -> None:
    start = time.perf_counter()
    data = load_data(DataConfig())
    seconds = time.perf_counter() - start
    assert data.name == "embedded"
    assert [len(split) for split in (data.train, data.val, data.test)] == [10_000, 2_000, 2_000]
    for split in (data.train, data.val, data.test):
        assert isinstance(split, InMemoryImages)
        assert split.shape == (1, 32, 32)
        assert split.classes[9] == "Ankle boot"
        assert torch.bincount(split.labels).tolist() == [len(split) // 10] * 10
    assert seconds < 5, "loading takes a fraction of a second on an idle machine"


def test_no_image_is_in_two_splits() -> None:
    data = load_data(DataConfig())
    train, val, test = (pixels_digests(split) for split in (data.train, data.val, data.test))
    assert len(train) > 9_900
    assert not train & val
    assert not (train | val) & test


def test_the_batches_are_normalised() -> None:
    data = load_data(DataConfig(size=28))
    images, _ = data.train.batch(range(10_000))
    assert abs(images.mean().item()) < 0.02
    assert abs(images.std().item() - 1) < 0.02


def test_size_64_in_colour_as_a_resnet50_reads_it() -> None:
    data = load_data(DataConfig(size=64, channels=3, train_images=100, test_images=50))
    assert data.train.shape == (3, 64, 64)
    assert data.train.batch([0, 1], augment=0)[0].shape == (2, 3, 64, 64)
    assert (len(data.train), len(data.test)) == (100, 50)


def test_the_package_holds_its_licence_and_stays_small() -> None:
    assert "Zalando" in (FOLDER / "LICENCE").read_text()
    assert "1708.07747" in (FOLDER / "ORIGIN.md").read_text()
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 6.2e6
