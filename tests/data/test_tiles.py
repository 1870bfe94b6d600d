from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from boxed_files import coco_root, photograph

from bnas.data import DataConfig, load_data
from bnas.data.box_table import box_table
from bnas.data.box_transforms import Window
from bnas.data.boxed_images import BoxedImages, ImageFile, StoredScenes, Tile
from bnas.data.tiles import apart, tiled
from bnas.errors import DataError

BOXES = np.random.default_rng(3).integers(0, 180, (60, 2))
BOXES = np.concatenate([BOXES, BOXES + np.random.default_rng(4).integers(4, 40, (60, 2))], 1)


@pytest.fixture
def scenes(tmp_path: Path) -> StoredScenes:
    sizes = np.array([[200, 150], [60, 220]])
    for name, (width, height) in zip("ab", sizes.tolist(), strict=True):
        photograph(width, height).save(tmp_path / f"{name}.png")
    images = np.arange(60) % 2
    return StoredScenes(
        sources=tuple(ImageFile(tmp_path, f"{name}.png") for name in "ab"),
        table=box_table(
            "here",
            sizes=sizes,
            images=images,
            corners=BOXES,
            labels=np.arange(60),
            crowd=np.zeros(60, bool),
        ),
    )


def parts(scenes: StoredScenes) -> list[tuple[str, Window]]:
    return [(s.photograph.name, s.part) for s in scenes.sources if isinstance(s, Tile)]


def test_tiles_cover_the_photographs(scenes: StoredScenes) -> None:
    made = tiled(scenes, 80, 40)
    covered = {"a.png": np.zeros((150, 200), int), "b.png": np.zeros((220, 60), int)}
    for name, (left, top, width, height) in parts(made):
        assert (width, height) == ((80, 80) if name == "a.png" else (60, 80))
        covered[name][top : top + height, left : left + width] += 1
    assert all(count.min() >= 1 for count in covered.values())
    assert [part[:2] for name, part in parts(made) if name == "b.png"] == [
        (0, t) for t in (0, 40, 80, 120, 140)
    ]
    image, _ = made[3]
    left, top, _, _ = parts(made)[3][1]
    assert (left, top) == (120, 0)
    assert image.tobytes() == scenes[0][0].crop((120, 0, 200, 80)).tobytes()


def test_boxes_of_a_tile_are_those_that_pixels_give(scenes: StoredScenes) -> None:
    """Each box drawn as a mask of its photograph; the tile's part of the mask says what is left of it."""
    made = tiled(scenes, 80, 50)
    for number, (name, (left, top, width, height)) in enumerate(parts(made)):
        image = "ab".index(name[0])
        (photo_width, photo_height), boxes = scenes.table.sizes[image], scenes.table[image]
        expected = []
        for label, crowd, box in zip(boxes.labels, boxes.crowd, boxes.boxes.numpy(), strict=True):
            x1, y1, x2, y2 = np.rint(box * np.tile([photo_width, photo_height], 2)).astype(int)
            mask = np.zeros((photo_height, photo_width), bool)
            mask[y1:y2, x1:x2] = True
            rows, columns = np.nonzero(mask[top : top + height, left : left + width])
            if len(rows):
                share = len(rows) / mask.sum()
                corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                expected.append((int(label), bool(crowd) or share < 0.5, corners, len(rows)))
        found = made.table[number]
        assert found.labels.tolist() == [label for label, *_ in expected]
        assert found.crowd.tolist() == [crowd for _, crowd, *_ in expected]
        scale = np.tile([width, height], 2)
        np.testing.assert_allclose(
            found.boxes.numpy() * scale, np.array([c for *_, c, _ in expected]).reshape(-1, 4), atol=1e-3
        )
        np.testing.assert_allclose(found.areas.numpy(), [area for *_, area in expected], rtol=1e-4)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_val_tiles_show_nothing_of_training_tiles(scenes: StoredScenes, count: int) -> None:
    config = DataConfig(name="x", tile=60, tile_step=30, val_images=count)
    train, val = apart(scenes, config)
    assert len(val) == count
    for name, a in parts(val):
        for other, b in parts(train):
            apart_ = (
                a.left + a.width <= b.left or b.left + b.width <= a.left
                or a.top + a.height <= b.top or b.top + b.height <= a.top
            )  # fmt: skip
            assert name != other or apart_
    assert max(part.top for _, part in parts(val)) == 160  # b's lower end
    assert len(train) > 5


def test_too_many_val_tiles_are_refused(scenes: StoredScenes) -> None:
    with pytest.raises(
        DataError, match=r"data.val_images: at most 15 tiles of 60 pixels in data.name=x, got 16"
    ):
        apart(scenes, DataConfig(name="x", tile=60, val_images=16))
    with pytest.raises(DataError, match=r"data.val_images=1: no tile is left to train on"):
        apart(scenes.take([1]), DataConfig(name="x", tile=200, tile_step=10, val_images=1))


def test_a_photograph_of_another_size_is_named(scenes: StoredScenes, tmp_path: Path) -> None:
    photograph(100, 75).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png: has 100 x 75 pixels, its boxes were made for 200 x 150"):
        tiled(scenes, 80, 80)[0]


def test_tiles_of_a_folder(tmp_path: Path) -> None:
    options = {
        "name": "coco",
        "channels": 3,
        "size": 16,
        "val_images": 4,
        "batch_workers": 1,
        "root": str(tmp_path),
    }
    coco_root(tmp_path)
    data = load_data(DataConfig(tile=20, tile_step=10, **options))
    assert (len(data.val), len(data.test)) == (4, 18)
    assert len(data.train) > 40
    assert isinstance(data.test, BoxedImages)
    images, labels = data.test.batch(range(18))
    assert images.shape == (18, 3, 16, 16)
    assert labels[:, 0, :2].unique().tolist() == [20]
