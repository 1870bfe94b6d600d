from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from boxed_files import coco_root, write_coco
from PIL import Image

from bnas import progress
from bnas.data import DataConfig, ImageSplits, batches, check_images, load_data
from bnas.data.box_table import _say_once
from bnas.data.boxed_images import BoxedImages, StoredScenes
from bnas.data.coco import read_coco
from bnas.detection import unpacked
from bnas.errors import ConfigError, DataError


def load(root: Path | None, **options: Any) -> ImageSplits:
    given = {"name": "coco", "channels": 3, "size": 32, "val_images": 2, "batch_workers": 2} | options
    return load_data(DataConfig(root=None if root is None else str(root), **given))


def names(images: Any) -> list[str]:
    assert isinstance(images, BoxedImages)
    assert isinstance(images.scenes, StoredScenes)
    return [source.name for source in images.scenes.sources]


def edited(root: Path, edit: Callable[[dict[str, Any]], object], split: str = "train2017") -> Path:
    file = root / "annotations" / f"instances_{split}.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))
    return file


def test_the_splits_of_a_coco_folder(tmp_path: Path) -> None:
    data = load(coco_root(tmp_path))
    assert (len(data.train), len(data.val), len(data.test)) == (4, 2, 3)
    assert data.train.classes == ("cat", "dog")  # in the order of their ids, 3 and 7
    assert sorted(names(data.train) + names(data.val)) == [f"train2017_{i}.png" for i in range(6)]
    assert names(data.test) == [f"val2017_{i}.png" for i in range(3)]
    assert names(load(tmp_path).val) == names(data.val)
    assert {tuple(names(load(tmp_path, split_seed=seed).val)) for seed in range(5)} != {
        tuple(names(data.val))
    }
    part = load(tmp_path, train_images=2, test_images=1)
    assert (len(part.train), len(part.test), data.calibration) == (2, 1, None)


def test_boxes_and_pixels_of_a_batch(tmp_path: Path) -> None:
    test = load(coco_root(tmp_path), size=40).test
    images, labels = test.batch([2, 0])
    assert images.shape == (2, *test.shape) == (2, 3, 40, 40)
    two, none = unpacked(labels)
    assert (two.width, two.height, two.number, none.number, len(none)) == (40, 60, 2, 0, 0)
    expected = torch.tensor([[6 / 40, 5 / 60, 18 / 40, 14 / 60], [22 / 40, 20 / 60, 30 / 40, 35 / 60]])
    torch.testing.assert_close(two.boxes, expected)
    assert two.labels.tolist() == [1, 0]
    assert (two.areas.tolist(), two.crowd.tolist()) == ([108, 120], [False, False])
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (test.mean, test.std))  # type: ignore[attr-defined]
    red = (images * std + mean)[0, 0] > 0.6
    rows, columns = red[: 40 * 16 // 60].nonzero().T
    assert (rows.min() - 40 * 5 / 60).abs() < 1
    assert (columns.min(), columns.max()) == (6, 17)


def test_what_a_split_is_to_the_rest(tmp_path: Path) -> None:
    train = load(coco_root(tmp_path)).train
    check_images(train)
    whole = [labels for _, labels in batches(train, 2, augment=lambda number: number)]
    assert [len(labels) for labels in whole] == [2, 2]
    shared = [next(batches(train, 4, augment=lambda _: 3, share=(rank, 2))) for rank in (0, 1)]
    pixels, _ = next(batches(train, 4, augment=lambda _: 3))
    assert torch.equal(torch.cat([images for images, _ in shared]), pixels)
    one, two = load(tmp_path, batch_workers=1).train.batch([0, 1], augment=9), train.batch([0, 1], augment=9)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


def test_a_label_that_is_no_class_is_refused(tmp_path: Path) -> None:
    train = load(coco_root(tmp_path)).train
    assert isinstance(train, BoxedImages)
    fewer = BoxedImages(scenes=train.scenes, classes=("cat",), size=32)
    with pytest.raises(DataError, match=r"image \d of the split has label 1; allowed: 0 to 0"):
        list(batches(fewer, 4))


def test_areas_and_crowds_are_the_files(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0] |= {"iscrowd": 1, "area": 17.5}
        del content["annotations"][1]["area"]
        content["annotations"][2]["area"] = None

    file = edited(coco_root(tmp_path), change)
    table = read_coco(file, tmp_path / "train2017").scenes.table
    assert table.areas.tolist() == [17.5, 108, 120, 108, 108, 120]
    assert table.crowd.tolist() == [True, False, False, False, False, False]


def test_boxes_that_are_none_are_cut_or_left_out_and_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [
        [50, 30, 20, 20],
        [-6, 2, 10, 10],
        [10, 10, 0, 5],
        [10, 10, 5, -2],
        [80, 10, 5, 5],
        [1, 1, float("nan"), 3],
    ]
    good = [10, 10, 5, 5]

    def change(content: dict[str, Any]) -> None:
        boxes = [
            {"id": i, "image_id": 101, "category_id": 3, "bbox": box} for i, box in enumerate([*bad, good])
        ]
        content["annotations"] = boxes

    file = edited(coco_root(tmp_path), change)
    _say_once.cache_clear()
    progress.enable()
    try:
        for _ in range(2):
            table = read_coco(file, tmp_path / "train2017").scenes.table
    finally:
        progress.enable(False)
    expected = torch.tensor([[50, 30, 60, 40], [0, 2, 4, 12], [10, 10, 15, 15]]) / torch.tensor(
        [60, 40, 60, 40]
    )
    torch.testing.assert_close(table[1].boxes, expected)
    assert table.areas.tolist() == [100, 40, 25]
    assert [len(table[i]) for i in range(6)] == [0, 3, 0, 0, 0, 0]
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert str(file) in said
    assert "2 reach beyond their image and are cut" in said
    assert "3 have no area inside their image and are left out; 1 are no numbers" in said


def test_annotations_without_any_box_are_images_without_boxes(tmp_path: Path) -> None:
    edited(coco_root(tmp_path), lambda content: content.update(annotations=[]))
    train = load(tmp_path, box_augment=("iou_crop", "zoom_out")).train
    for augment in (None, 1):
        images, labels = train.batch(range(4), augment=augment)
        assert images.shape == (4, 3, 32, 32)
        assert [len(boxes) for boxes in unpacked(labels)] == [0] * 4


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unknown image": (
        lambda c: c["annotations"][0].update(image_id=9),
        r"1 of the 6 boxes have a image_id that 'images' has not: 9",
    ),
    "unknown category": (
        lambda c: [a.update(category_id=5) for a in c["annotations"][:2]],
        r"2 of the 6 boxes have a category_id that 'categories' has not: 5",
    ),
    "missing image": (
        lambda c: [c["images"][i].update(file_name=f"gone_{i}.png") for i in range(2)],
        r"train2017: 2 of the 6 images that .*instances_train2017.json lists are missing: gone_0.png, gone_1.png",
    ),
    "no images": (lambda c: c.update(images=[]), "lists no image"),
    "no categories": (lambda c: c.update(categories=[]), "lists no category"),
    "no list": (lambda c: c.pop("annotations"), "has no list 'annotations'"),
    "no object": (lambda c: c["images"].append(3), r"images\[6\]: expected a JSON object"),
    "no name": (
        lambda c: c["images"][1].pop("file_name"),
        r"images\[1\].file_name: expected a text, got nothing",
    ),
    "no width": (
        lambda c: c["images"][1].update(width="a"),
        r"images\[1\].width: expected a number, got 'a'",
    ),
    "no pixels": (lambda c: c["images"][0].update(width=0), r"train2017_0.png is said to have 0 x 60 pixels"),
    "no box": (
        lambda c: c["annotations"][3].update(bbox=[1, 2]),
        r"annotations\[3\].bbox: expected x, y, width",
    ),
    "no numbers": (
        lambda c: c["annotations"][3].update(bbox="abcd"),
        r"annotations\[3\].bbox: expected x, y",
    ),
    "one number": (lambda c: c["annotations"][3].update(bbox=[5]), r"bbox: expected x, y, .* got \[5\]"),
    "text": (lambda c: c["annotations"][3].update(bbox="1234"), r"bbox: expected x, y, .* got 1234"),
    "twice": (lambda c: c["images"][1].update(id=100), "1 of the ids in 'images' occur twice"),
    "other categories": (
        lambda c: c["categories"][0].update(name="wolf"),
        "train and val have different categories: '(wolf|dog)' with id 7",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_damaged_annotations_are_refused_by_name(tmp_path: Path, case: str) -> None:
    change, text = REFUSED[case]
    edited(coco_root(tmp_path), change)
    with pytest.raises(DataError, match=text):
        load(tmp_path)


def test_whole_numbers_may_be_written_with_a_point(tmp_path: Path) -> None:
    """As tools write them that keep columns in floating point."""
    usual = load(coco_root(tmp_path)).test

    def change(content: dict[str, Any]) -> None:
        for part, keys in (
            ("annotations", ("image_id", "category_id")),
            ("images", ("id",)),
            ("categories", ("id",)),
        ):
            for entry in content[part]:
                entry.update({key: float(entry[key]) for key in keys})

    file = tmp_path / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    assert torch.equal(load(tmp_path).test.batch([0])[1], usual.batch([0])[1])


def test_what_is_no_json_or_missing_is_refused(tmp_path: Path) -> None:
    file = coco_root(tmp_path) / "annotations" / "instances_train2017.json"
    whole = file.read_text()
    for text, said in (
        (whole[:-9], "is damaged: no JSON"),
        ("[]", "expected a JSON object"),
        ("", "no JSON"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=said):
            load(tmp_path)
    file.unlink()
    with pytest.raises(
        DataError, match=r"expected one annotations/instances_train\*.json in it, found nothing"
    ):
        load(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"needs data.root"):
        load(None)
    with pytest.raises(DataError, match=r"data.channels"):
        load(tmp_path, channels=1)
    with pytest.raises(DataError, match=r"gone.json does not exist"):
        load(tmp_path, train_annotations=str(tmp_path / "gone.json"))
    with pytest.raises(DataError, match=r"nowhere: no such folder; .* lists 3 images"):
        read_coco(tmp_path / "annotations" / "instances_val2017.json", tmp_path / "nowhere")


def test_more_images_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.val_images: at most 5 in data.name=coco, got 6"):
        load(coco_root(tmp_path), val_images=6)
    with pytest.raises(DataError, match=r"data.test_images: at most 3"):
        load(tmp_path, test_images=4)


def test_files_may_lie_elsewhere(tmp_path: Path) -> None:
    write_coco(
        tmp_path / "a.json",
        tmp_path / "a",
        [(f"{i}.png", 30, 30, [(1, 1, 9, 9)]) for i in range(4)],
        {1: "x"},
    )
    paths = {"annotations": str(tmp_path / "a.json"), "folder": str(tmp_path / "a")}
    data = load(
        tmp_path, **{f"{split}_{key}": path for split in ("train", "test") for key, path in paths.items()}
    )
    assert (len(data.train), len(data.val), len(data.test), data.test.classes) == (2, 2, 4, ("x",))


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    path = coco_root(tmp_path) / "val2017" / "val2017_1.png"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"val2017_1.png: cannot be read as an image"):
        load(tmp_path).test.batch(range(3))


def test_an_image_of_another_shape_is_named(tmp_path: Path) -> None:
    folder = coco_root(tmp_path) / "val2017"
    Image.open(folder / "val2017_0.png").resize((80, 120)).save(
        folder / "val2017_0.png"
    )  # fractions stay right
    Image.open(folder / "val2017_1.png").resize((50, 50)).save(folder / "val2017_1.png")
    test = load(tmp_path).test
    test.batch([0])
    with pytest.raises(
        DataError, match=r"val2017_1.png: has 50 x 50 pixels, its boxes were made for 60 x 40"
    ):
        test.batch([1])


def test_an_image_that_its_camera_turned_is_turned_as_its_annotations_say(tmp_path: Path) -> None:
    folder = coco_root(tmp_path) / "val2017"
    upright = Image.open(folder / "val2017_1.png").convert("RGB")  # 60 x 40
    exif = Image.Exif()
    exif[274] = 6  # to be shown turned clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "val2017_1.png", exif=exif)
    expected = load(coco_root(tmp_path / "b")).test.batch([1])
    assert torch.equal(load(tmp_path).test.batch([1])[0], expected[0])


def test_images_of_other_modes(tmp_path: Path) -> None:
    """Grey, 16-bit grey, transparent, CMYK and palette images are what an RGB image of the same colours is."""
    grey = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    rgb = np.repeat(grey[..., None], 3, 2)
    alpha = np.random.default_rng(1).integers(0, 256, (40, 60, 1), dtype=np.uint8)
    files = {
        "L.png": Image.fromarray(grey),
        "I16.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "I16.tif": Image.fromarray((grey * 257.0 + 90).clip(0, 65535).astype(np.uint16)),
        "RGBA.png": Image.fromarray(np.concatenate([rgb, alpha], 2)),
        "CMYK.tif": Image.fromarray(rgb).convert("CMYK"),
        "P.png": Image.fromarray(grey).convert("P"),
    }
    modes = ("L", "I;16", "I;16", "RGBA", "CMYK", "P")
    write_coco(tmp_path / "a.json", tmp_path / "a", [(name, 60, 40, []) for name in files], {1: "x"})
    for (name, image), mode in zip(files.items(), modes, strict=True):
        image.save(tmp_path / "a" / name)
        with Image.open(tmp_path / "a" / name) as file:
            assert file.mode == mode
    made = read_coco(tmp_path / "a.json", tmp_path / "a")
    for number in range(len(files)):
        found = np.asarray(made.scenes[number][0]).astype(int)
        assert found.shape == (40, 60, 3)
        assert np.abs(found - rgb).max() <= 1, list(files)[number]


def test_images_for_calibration_are_those_of_a_list_or_a_folder(tmp_path: Path) -> None:
    calibration = tmp_path / "list.txt"
    calibration.write_text("train2017_4.png\n\ntrain2017_1\ntrain/train2017_0.png 17\n")
    data = load(coco_root(tmp_path), calibration=str(calibration))
    assert names(data.calibration) == [f"train2017_{i}.png" for i in (4, 1, 0)]
    folder = load(tmp_path, calibration=str(tmp_path / "val2017")).calibration
    assert folder is not None
    images, labels = folder.batch(range(3))
    assert torch.equal(images, data.test.batch(range(3))[0])
    assert [len(boxes) for boxes in unpacked(labels)] == [0, 0, 0]
    (tmp_path / "empty").mkdir()
    for text, said in (
        ("train2017_9.png 17", "1 of its 1 images are none of the training images: train2017_9.png 17"),
        ("", "lists no"),
    ):
        calibration.write_text(text)
        with pytest.raises(DataError, match=said):
            load(tmp_path, calibration=str(calibration))
    for name, said in (("empty", "no image in it"), ("gone", "No such file")):
        with pytest.raises(DataError, match=said):
            load(tmp_path, calibration=str(tmp_path / name))
    with pytest.raises(ConfigError, match=r"data.calibration: data.name=embedded has no list"):
        load_data(DataConfig(calibration="list.txt"))


def test_images_for_calibration_of_one_name_in_several_folders(tmp_path: Path) -> None:
    files = ["a/1.png", "b/1.png", "two words.png", "two.png"]
    folder, listed = coco_root(tmp_path) / "train2017", tmp_path / "list.txt"
    for name in ("a", "b"):
        (folder / name).mkdir()
    images = [(name, 60, 40, [(4, 5, 12, 9), (22, 20, 8, 15)]) for name in files]
    write_coco(tmp_path / "annotations" / "instances_train2017.json", folder, images, {7: "dog", 3: "cat"})
    listed.write_text("b/1.png\ntwo words.png\na/1\n")
    assert names(load(tmp_path, calibration=str(listed)).calibration) == [
        "b/1.png",
        "two words.png",
        "a/1.png",
    ]
    tiles = load(tmp_path, calibration=str(listed), tile=30, val_images=1).calibration
    assert names(tiles)[:3] == [f"b/1.png at {left}, {top}" for top, left in ((0, 0), (0, 30), (10, 0))]
    assert tiles is not None
    assert len(tiles) == 3 * 4
    listed.write_text("1.png")
    with pytest.raises(DataError, match=r"1 of its 1 images are several of the training images: 1\.png"):
        load(tmp_path, calibration=str(listed))
