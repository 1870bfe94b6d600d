from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bnas.data import DataConfig, ImageSplits, batches, check_images, load_data
from bnas.data.boxed_images import BoxedImages
from bnas.data.composed_scenes import MOST_OBJECTS, ComposedScenes
from bnas.data.idx import CLASSES
from bnas.detection import unpacked
from bnas.errors import DataError


def load(**options: Any) -> ImageSplits:
    given = {"channels": 3, "size": 96, "val_images": 30, "batch_workers": 1} | options
    return load_data(DataConfig(name="composed_scenes", **given))


def scenes(images: Any) -> ComposedScenes:
    assert isinstance(images, BoxedImages)
    assert isinstance(images.scenes, ComposedScenes)
    return images.scenes


def test_the_splits() -> None:
    data = load(train_images=50, test_images=20)
    assert data.name == "composed_scenes"
    assert (len(data.train), len(data.val), len(data.test)) == (50, 30, 20)
    assert data.train.classes == CLASSES
    assert (len(load().train), len(load().test)) == (8000, 1000)
    check_images(data.train)
    images, labels = next(batches(data.train, 8, augment=lambda _: 1))
    assert images.shape == (8, 3, 96, 96)
    assert all(1 <= len(boxes) <= MOST_OBJECTS for boxes in unpacked(labels))


def test_no_garment_is_in_two_splits() -> None:
    data = load()
    parts = [{pixels.tobytes() for pixels in scenes(s).pixels} for s in (data.train, data.val, data.test)]
    assert [len(scenes(s).labels) for s in (data.train, data.val, data.test)] == [10000, 2000, 2000]
    assert not parts[0] & parts[1]
    # The embedded set itself may hold an image twice; its splits are of different images.
    assert len(parts[0] & parts[2]) + len(parts[1] & parts[2]) <= 1
    counts = np.bincount(scenes(data.val).labels)
    assert counts.tolist() == [200] * 10


def test_scenes_are_fixed_by_seed_split_and_number() -> None:
    one, same, other = load(), load(), load(split_seed=1)
    for first, second in ((one.train, same.train), (one.test, same.test)):
        for a, b in zip(first.batch([3, 17]), second.batch([3, 17]), strict=True):
            assert torch.equal(a, b)
    images = [split.batch([number])[0] for split in (one.train, one.val, other.train) for number in (3, 4)]
    assert len({image.numpy().tobytes() for image in images}) == 6


def plain(size: int, garment: np.ndarray, count: int = 40) -> ComposedScenes:
    return ComposedScenes(pixels=garment[None], labels=np.array([4]), count=count, size=size, seed=0, split=0)


def test_boxes_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a plain ground, with one garment, the box is that of the pixels that are not the ground's."""
    monkeypatch.setattr("bnas.data.composed_scenes.MOST_OBJECTS", 1)
    monkeypatch.setattr(
        "bnas.data.composed_scenes._background", lambda size, _: np.full((size, size), 100, np.uint8)
    )
    garment = np.zeros((28, 28), np.uint8)
    garment[5:20, 9:13] = 200
    garment[18:22, 9:24] = 90
    places = set()
    for number in range(40):
        image, boxes = plain(120, garment)[number]
        rows, columns = np.nonzero(np.asarray(image)[..., 0] != 100)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert (boxes.boxes * 120).tolist() == [pytest.approx(expected, abs=1e-3)]
        assert boxes.labels.tolist() == [4]
        width, height = expected[2] - expected[0], expected[3] - expected[1]
        assert boxes.areas.tolist() == [width * height]
        assert 0.6 < (width / height) / (15 / 17) < 1.6
        assert 0.1 * 120 < max(width, height) <= 0.46 * 120
        places.add(tuple(expected))
    assert len(places) > 35


def test_garments_hide_little_of_each_other_and_stand_out() -> None:
    several = 0
    train = scenes(load().train)
    for number in range(60):
        image, found = train[number]
        pixels = np.asarray(image).astype(int)
        assert (pixels[..., 0] == pixels[..., 2]).all()
        boxes = (found.boxes * 96).round().int().tolist()
        several += len(boxes) > 1
        for i, (x1, y1, x2, y2) in enumerate(boxes):
            assert 0 <= x1 < x2 <= 96
            assert 0 <= y1 < y2 <= 96
            inside = pixels[y1:y2, x1:x2, 0]
            assert inside.max() - inside.min() > 15
            mask = np.zeros((96, 96), bool)
            mask[y1:y2, x1:x2] = True
            for a, b, c, d in boxes[:i]:
                assert mask[b:d, a:c].sum() <= 0.2 * min((c - a) * (d - b), mask.sum())
    assert 30 < several < 60


def test_augmentation_moves_boxes_as_in_other_sets() -> None:
    train = load(flip=True).train
    straight, mirrored = (unpacked(train.batch(range(12), augment=a)[1]) for a in (None, 5))
    same = [torch.equal(a.boxes, b.boxes) for a, b in zip(straight, mirrored, strict=True)]
    assert 0 < sum(same) < 12
    for a, b, equal in zip(straight, mirrored, same, strict=True):
        if not equal:
            torch.testing.assert_close(1 - a.boxes[:, [2, 0]], b.boxes[:, [0, 2]])


def test_grey_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"data.channels: data.name=composed_scenes has images of 3 channels"):
        load(channels=1)


def test_what_they_have_not_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"data.tile: data.name=composed_scenes has none: leave it out, got 64"
    ):
        load(tile=64)
    with pytest.raises(DataError, match=r"data.one_class: .* got garment"):
        load(one_class="garment")
