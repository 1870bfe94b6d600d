from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from boxed_files import photograph

from bnas.data import DataConfig, ImageSplits, load_data
from bnas.data.boxed_images import BoxedImages, StoredScenes
from bnas.data.voc import read_voc
from bnas.detection import unpacked
from bnas.errors import DataError

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
    "<ymax>{}</ymax></bndbox></object>"
)


def xml(*objects: Sequence[Any], width: object = 60) -> str:
    size = f"<size><width>{width}</width><height>40</height><depth>3</depth></size>"
    return f"<annotation>{size}{''.join(OBJECT.format(*one) for one in objects)}</annotation>"


def write(root: Path, names: Sequence[str], images: str = "", annotations: str = "") -> None:
    for folder in (images, annotations):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        objects = [("cat", 0, 1, 1, 30, 20), ("bird", 1, 31, 11, 60, 40)][: 1 + i % 2]
        (root / annotations / f"{name}.xml").write_text(xml(*objects))
        photograph(60, 40, seed=i).save(root / images / f"{name}.jpg")


def load(root: Path, **options: Any) -> ImageSplits:
    given = {"name": "voc", "channels": 3, "size": 24, "val_images": 1, "batch_workers": 1} | options
    return load_data(DataConfig(root=str(root), **given))


def names(images: Any) -> list[str]:
    assert isinstance(images, BoxedImages)
    assert isinstance(images.scenes, StoredScenes)
    return [source.name for source in images.scenes.sources]


@pytest.mark.parametrize("lists", [("train", "val"), ("trainval", "test")])
def test_the_splits_of_a_voc_folder(tmp_path: Path, lists: tuple[str, str]) -> None:
    write(tmp_path, ["a", "b", "c", "d", "e"], "JPEGImages", "Annotations")
    main = tmp_path / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (main / f"{lists[0]}.txt").write_text("a\nb\nc\n")
    (main / f"{lists[1]}.txt").write_text("d\ne\n\n")
    data = load(tmp_path)
    assert (len(data.train), len(data.val), names(data.test)) == (2, 1, ["d.jpg", "e.jpg"])
    assert data.test.classes == ("bird", "cat")
    two, one = unpacked(data.test.batch([0, 1])[1])
    torch.testing.assert_close(
        two.boxes, torch.tensor([[0, 0, 0.5, 0.5], [0.5, 0.25, 1, 1]])
    )  # 1 is the first pixel
    assert (two.labels.tolist(), two.crowd.tolist(), one.labels.tolist()) == ([1, 0], [False, True], [1])
    assert two.areas.tolist() == [600, 900]


def test_a_flat_folder_with_names_held_out(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b", "c"])
    data = load(tmp_path, test_names=("b",))
    assert names(data.test) == ["b.jpg"]
    assert sorted(names(data.train) + names(data.val)) == ["a.jpg", "c.jpg"]
    boxes = unpacked(data.test.batch([0])[1])[0]
    torch.testing.assert_close(
        boxes.boxes[0], torch.tensor([1 / 60, 1 / 40, 0.5, 0.5])
    )  # 0 is the first pixel
    single = load(tmp_path, test_names=("b",), one_class="animal")
    assert single.test.classes == ("animal",)
    assert unpacked(single.test.batch([0])[1])[0].labels.tolist() == [0, 0]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b", "c"])
    file = tmp_path / "a.xml"
    for text, said in (
        ("<annotation><size>", r"a.xml is damaged: no XML"),
        (xml(("cat", 0, 1, 1, "x", 20)), r"a.xml: <bndbox><xmax>: expected a number, got 'x'"),
        (xml(("", 0, 1, 1, 30, 20)), r"a.xml: object 0 has no name"),
        (xml(width=""), r"a.xml: <size><width>: expected a number, got ''"),
        (xml(width=0), "image a is said to have 0 x 40 pixels"),
        (xml(("cat", 0, 1, 1, "1.2.3", 20)), r"a.xml: <bndbox><xmax>: expected a number, got '1.2.3'"),
        (xml(width="."), r"a.xml: <size><width>: expected a number, got '.'"),
        (xml(width="nan"), r"a.xml: <size><width>: expected a number of pixels, got nan"),
        (xml(width="inf"), r"a.xml: <size><width>: expected a number of pixels, got inf"),
        ('<?xml version="1.0" encoding="gb2312"?><annotation/>', r"a.xml is damaged: no XML: multi-byte"),
        ('<?xml version="1.0" encoding="none-such"?><annotation/>', r"a.xml is damaged: no XML: unknown enc"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', r"a.xml: declares entities"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=said):
            load(tmp_path, test_names=("b",))
    file.unlink()
    with pytest.raises(DataError, match=r"a.xml does not exist"):
        read_voc(file)
    (tmp_path / "c.jpg").unlink()
    with pytest.raises(DataError, match=r"no image for .*c.xml"):
        load(tmp_path, test_names=("b",))


def test_boxes_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b", "c"])
    (tmp_path / "b.xml").write_text(xml(("cat", 0, "nan", 1, 30, 20), ("cat", 0, 50, 20, 80, 30)))
    boxes = unpacked(load(tmp_path, test_names=("b",)).test.batch([0])[1])[0]
    torch.testing.assert_close(boxes.boxes, torch.tensor([[50 / 60, 0.5, 1, 0.75]]))


def test_folders_of_no_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no .xml file in it; expected there: Annotations"):
        load(tmp_path)
    write(tmp_path, ["a", "b"])
    with pytest.raises(DataError, match=r"its annotations are a, b, …; expected there"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"data.test_names: no x.xml"):
        load(tmp_path, test_names=("x",))
    with pytest.raises(DataError, match="no image is left to train on"):
        load(tmp_path, test_names=("a", "b"))
    for name in "ab":
        (tmp_path / f"{name}.xml").write_text(xml())
    with pytest.raises(DataError, match="no object in any of its files"):
        load(tmp_path, test_names=("a",))
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    with pytest.raises(DataError, match=r"has neither trainval.txt and test.txt nor"):
        load(tmp_path)
    for name in ("train", "val"):
        (lists / f"{name}.txt").write_bytes(b"\xff\xfea")
    with pytest.raises(DataError, match=r"train.txt is damaged: no text in UTF-8"):
        load(tmp_path)


@pytest.mark.skipif(
    "BNAS_DEEPFOREST" not in os.environ, reason="BNAS_DEEPFOREST names no folder of its photographs"
)
def test_tiles_of_deepforest() -> None:
    data = load(
        Path(os.environ["BNAS_DEEPFOREST"]),
        size=64,
        tile=256,
        val_images=24,
        test_names=("2019_YELL_2_541000_4977000_image_crop",),
        one_class="Tree",
    )
    assert (len(data.train), len(data.val), len(data.test)) == (247, 24, 25)
    assert not any("541000" in name for name in names(data.train) + names(data.val))
    boxes = unpacked(data.test.batch(range(25))[1])
    # Of the photograph's 279 boxes each has at least half of its area in one tile, or is cut by several.
    whole = sum(int((~one.crowd).sum()) for one in boxes)
    assert 279 <= whole <= 400
