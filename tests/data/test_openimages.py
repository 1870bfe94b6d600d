from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from boxed_files import photograph

from bnas.data import DataConfig, ImageSplits, load_data
from bnas.data.openimages import CATEGORIES, drawn_for_calibration, prepare_openimages_mlperf
from bnas.detection import unpacked
from bnas.errors import DataError

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
ROWS = [  # not ordered by image; /m/1 is no class of MLPerf, "e5" is not in the folder
    "b2,xclick,/m/c263,1,0.25,0.75,0.1,0.5,0,1,0,0,0",
    "a1,xclick,/m/c0,1,0,0.5,0.5,1,0,0,1,0,0",
    "b2,activemil,/m/1,1,0,1,0,1,0,0,0,0,0",
    "d4,xclick,/m/1,1,0,1,0,1,0,0,0,0,0",
    "e5,xclick,/m/c7,1,0,1,0,1,0,0,0,0,0",
    "b2,xclick,/m/c7,1,0,1,0,1,-1,0,0,0,0",
]


def sources(
    root: Path, split: str = "train", rows: list[str] = ROWS, head: bool = False
) -> tuple[Path, Path, Path]:
    """OpenImages' two CSV files, and its images in root/`split`/data."""
    images = root / split / "data"
    images.mkdir(parents=True)
    for number, name in enumerate(("a1", "b2", "d4")):
        photograph(40 + 20 * number, 50, seed=number).save(images / f"{name}.jpg")
    boxes, classes = root / f"{split}-boxes.csv", root / f"{split}-classes.csv"
    boxes.write_text("\n".join([HEADER, *rows, ""]))
    with open(classes, "w", newline="") as file:
        writer = csv.writer(file)
        if head:
            writer.writerow(["LabelName", "DisplayName"])
        writer.writerow(["/m/1", "Toothbrush, electric"])
        writer.writerows([f"/m/c{i}", name] for i, name in reversed(list(enumerate(CATEGORIES))))
    return boxes, classes, images


def load(root: Path, **options: Any) -> ImageSplits:
    given = {
        "name": "openimages_mlperf",
        "channels": 3,
        "size": 24,
        "val_images": 1,
        "batch_workers": 1,
    } | options
    return load_data(DataConfig(root=str(root), **given))


def test_the_264_classes() -> None:
    """As in openimages_mlperf.sh of MLCommons' inference and training repositories, where they are in this order."""
    assert len(set(CATEGORIES)) == len(CATEGORIES) == 264
    assert list(CATEGORIES) == sorted(CATEGORIES)
    assert (CATEGORIES[0], CATEGORIES[83], CATEGORIES[-1]) == ("Airplane", "Egg (Food)", "Zucchini")
    assert hashlib.sha256("\n".join(CATEGORIES).encode()).hexdigest()[:8] == "6b21d26d"


@pytest.mark.parametrize("head", [False, True])
def test_annotations_are_made_of_csv_files(tmp_path: Path, head: bool) -> None:
    out = tmp_path / "annotations" / "openimages-mlperf-train.json"
    made = prepare_openimages_mlperf(*sources(tmp_path, head=head), out)
    assert (made.names, made.boxes, made.absent) == (("a1.jpg", "b2.jpg"), 3, 1)
    content = json.loads(out.read_text())
    assert content["categories"][263] == {"id": 263, "name": "Zucchini"}
    assert content["images"] == [
        {"id": 1, "file_name": "a1.jpg", "width": 40, "height": 50},
        {"id": 2, "file_name": "b2.jpg", "width": 60, "height": 50},
    ]
    found = [
        (a["id"], a["image_id"], a["category_id"], a["bbox"], a["area"], a["iscrowd"])
        for a in content["annotations"]
    ]
    assert found == [
        (1, 1, 0, [0, 25, 20, 25], 500, 1),
        (2, 2, 263, [15, 5, 30, 20], 600, 0),
        (3, 2, 7, [0, 0, 60, 50], 3000, 0),
    ]
    assert content["annotations"][1]["IsTruncated"] == 1
    assert content["annotations"][2]["IsOccluded"] == -1


def test_what_is_made_is_what_is_loaded(tmp_path: Path) -> None:
    for split, name in (("train", "openimages-mlperf-train"), ("validation", "openimages-mlperf")):
        prepare_openimages_mlperf(*sources(tmp_path, split), tmp_path / "annotations" / f"{name}.json")
    data = load(tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (1, 1, 2)
    assert data.test.classes == CATEGORIES
    first, second = unpacked(data.test.batch([0, 1])[1])
    torch.testing.assert_close(first.boxes, torch.tensor([[0, 0.5, 0.5, 1]]))
    assert (first.crowd.tolist(), second.labels.tolist()) == ([True], [263, 7])
    for split, name in (("train", "openimages-mlperf-train"), ("validation", "openimages-mlperf")):
        moved = tmp_path / split / "labels" / "openimages-mlperf.json"  # as MLCommons' training scripts do
        moved.parent.mkdir()
        (tmp_path / "annotations" / f"{name}.json").rename(moved)
    assert len(load(tmp_path).test) == 2


def test_other_classes_are_refused(tmp_path: Path) -> None:
    for split, name in (("train", "openimages-mlperf-train"), ("validation", "openimages-mlperf")):
        prepare_openimages_mlperf(*sources(tmp_path, split), tmp_path / "annotations" / f"{name}.json")
    file = tmp_path / "annotations" / "openimages-mlperf.json"
    content = json.loads(file.read_text())
    content["categories"][5]["name"] = "Bananas"
    file.write_text(json.dumps(content))
    with pytest.raises(
        DataError, match=r"openimages-mlperf.json: expected the 264 classes .* 'Bananas' is none of them"
    ):
        load(tmp_path)
    file.unlink()
    with pytest.raises(
        DataError, match=r"there is no .*openimages-mlperf.json nor .*labels/openimages-mlperf.json; expected"
    ):
        load(tmp_path)


def test_sources_that_are_none_are_refused(tmp_path: Path) -> None:
    boxes, classes, images = sources(tmp_path)
    out = tmp_path / "out.json"

    def refused(text: str, *files: Path) -> None:
        with pytest.raises(DataError, match=text):
            prepare_openimages_mlperf(*files, out)  # type: ignore[arg-type]
        assert not out.exists()

    refused("gone.csv does not exist", tmp_path / "gone.csv", classes, images)
    refused("gone.csv does not exist", boxes, tmp_path / "gone.csv", images)
    refused("gone: no such folder of images", boxes, classes, tmp_path / "gone")
    refused("boxes.csv: expected a label and its name on each line", boxes, boxes, images)
    refused("classes.csv: has no column ImageID", classes, classes, images)
    refused("is no CSV file", images / "a1.jpg", classes, images)
    refused(r"none of its 0 images has a box of the 264 classes", boxes, classes, tmp_path)
    few = tmp_path / "few.csv"
    few.write_text("".join(classes.read_text().splitlines(keepends=True)[:-2]))
    refused("2 of the 264 classes of MLPerf are not in it: Airplane, Antelope", boxes, few, images)
    boxes.write_text("\n".join([HEADER, ROWS[0], ROWS[1].replace("0.5", "x")]))
    refused(r"boxes.csv: line 3 is damaged: a1,xclick", boxes, classes, images)
    boxes.write_text("\n".join([HEADER, ROWS[0]]))
    (images / "b2.jpg").write_bytes(b"no image")
    refused(r"b2.jpg: cannot be read as an image", boxes, classes, images)


def test_images_for_calibration_are_fixed_by_the_seed() -> None:
    names = [f"{i:03}.jpg" for i in range(100)]
    drawn = drawn_for_calibration(names, 10)
    assert len(set(drawn)) == 10
    assert (
        drawn == sorted(drawn) == drawn_for_calibration(names, 10) != drawn_for_calibration(names, 10, seed=1)
    )
    assert drawn_for_calibration(names[:4], 10) == names[:4]
