from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from boxed_files import photograph
from tf_examples import Example, write_records

from bnas.data import DataConfig, ImageSplits, load_data
from bnas.detection import unpacked
from bnas.errors import DataError


def jpeg(width: int, height: int, seed: int) -> bytes:
    file = io.BytesIO()
    photograph(width, height, [(5, 5, 10, 10)], seed).save(file, "JPEG", quality=90)
    return file.getvalue()


def one(number: int, **changes: Any) -> bytes:
    """A record as the Object Detection API's create_coco_tf_record writes it, with two boxes."""
    features = {
        "image/height": [40],
        "image/width": [60],
        "image/filename": [f"{number}.jpg".encode()],
        "image/encoded": [jpeg(60, 40, number)],
        "image/format": [b"jpeg"],
        "image/object/bbox/xmin": [0.1, 0.5],
        "image/object/bbox/ymin": [0.2, 0.25],
        "image/object/bbox/xmax": [0.3, 1.0],
        "image/object/bbox/ymax": [0.4, 0.75],
        "image/object/class/label": [90, 3],
        "image/object/class/text": [b"toothbrush", b"car"],
        "image/object/is_crowd": [0, 1],
        "image/object/area": [50.5, 600.0],
    } | changes
    return bytes(Example({k: v for k, v in features.items() if v is not None}).SerializeToString())


NO_BOXES = {
    f"image/object/{key}": [] for key in ("bbox/xmin", "bbox/ymin", "bbox/xmax", "bbox/ymax", "class/label")
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_records(tmp_path / "coco_train.record-00000-of-00002", [one(0), one(1, **NO_BOXES)])
    write_records(tmp_path / "coco_train.record-00001-of-00002", [one(2)])
    write_records(tmp_path / "coco_val.record-00000-of-00001", [one(3), one(4, **NO_BOXES)])
    return tmp_path


def load(root: Path, **options: Any) -> ImageSplits:
    given = {
        "name": "coco_tfrecord",
        "channels": 3,
        "size": 32,
        "val_images": 1,
        "batch_workers": 1,
    } | options
    return load_data(DataConfig(root=str(root), **given))


def test_boxes_and_images_of_records(root: Path) -> None:
    data = load(root)
    assert (len(data.train), len(data.val), len(data.test)) == (2, 1, 2)
    assert data.test.classes == ("car", "toothbrush")
    images, labels = data.test.batch([0, 1])
    boxes, none = unpacked(labels)
    torch.testing.assert_close(boxes.boxes, torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.25, 1.0, 0.75]]))
    assert (boxes.labels.tolist(), boxes.crowd.tolist(), boxes.areas.tolist()) == (
        [1, 0],
        [False, True],
        [50.5, 600],
    )
    assert (boxes.width, boxes.height, len(none)) == (60, 40, 0)
    assert images[0, 0, 8, 5] > 1 > images[0, 0, 20, 20]  # red where the rectangle is
    assert not torch.equal(images[0], images[1])


def test_classes_of_a_label_map(root: Path) -> None:
    (root / "mscoco_label_map.pbtxt").write_text(
        'item {\n  name: "/m/0k4j"\n  id: 3\n  display_name: "motor car"\n}\n'
        "item {\n  id: 7\n  name: 'fork'\n}\nitem { id: 90 name: \"brush\" }\n"
    )
    data = load(root)
    assert data.test.classes == ("motor car", "fork", "brush")
    assert unpacked(data.test.batch([0])[1])[0].labels.tolist() == [2, 0]
    (root / "mscoco_label_map.pbtxt").write_text('item { id: 3 name: "car" }')
    with pytest.raises(DataError, match="boxes have the label 90, which is not in the label map"):
        load(root)


def test_what_records_may_leave_out(root: Path) -> None:
    without = ("image/object/is_crowd", "image/object/area", "image/object/class/text", "image/width")
    write_records(root / "coco_val.record-00000-of-00001", [one(5, **dict.fromkeys(without))])
    boxes = unpacked(load(root).test.batch([0])[1])[0]
    assert (boxes.width, boxes.height, boxes.crowd.tolist()) == (60, 40, [False, False])
    torch.testing.assert_close(boxes.areas, torch.tensor([12.0 * 8, 30.0 * 20]))


def test_damaged_records_are_named(root: Path) -> None:
    path = root / "coco_val.record-00000-of-00001"
    for changes, text in (
        ({"image/object/class/label": [3]}, "has 2 boxes and 1 labels"),
        ({"image/object/bbox/xmin": [0.5]}, "has unequal numbers of coordinates"),
        ({"image/encoded": None, "image/width": None}, "has no image/encoded"),
    ):
        write_records(path, [one(5, **changes)])
        with pytest.raises(DataError, match=rf"coco_val.record-00000-of-00001: the record at byte 12 {text}"):
            load(root)
    write_records(path, [b"\xff\xff"])
    with pytest.raises(DataError, match=r"the record at byte 12 is no tf.train.Example"):
        load(root)
    write_records(path, [one(5, **{"image/encoded": [jpeg(60, 40, 0)[:300]]})])
    with pytest.raises(DataError, match=r"coco_val.record-.* \(5.jpg\): cannot be read as an image"):
        load(root).test.batch([0])
    write_records(path, [one(5)])
    data = load(root)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DataError, match="the record at byte 12 is damaged"):
        data.test.batch([0])
    path.write_bytes(b"")
    with pytest.raises(DataError, match="no image in it"):
        load(root)
    path.unlink()
    with pytest.raises(DataError, match="no TFRecord file of val in it"):
        load(root)
