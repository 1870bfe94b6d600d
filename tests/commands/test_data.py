"""`bnas data openimages-mlperf` on miniature files of OpenImages."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from boxed_files import photograph

from bnas.__main__ import main
from bnas.data import DataConfig, load_data
from bnas.data.openimages import CATEGORIES


def sources(root: Path, split: str) -> list[str]:
    images = root / split / "data"
    images.mkdir(parents=True)
    rows = ["ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf"]
    for number in range(4):
        photograph(30, 20, seed=number).save(images / f"{split}{number}.jpg")
        rows.append(f"{split}{number},xclick,/m/{number},1,0.1,0.5,0.2,0.7,0")
    boxes, classes = root / f"{split}-annotations-bbox.csv", root / "class-descriptions-boxable.csv"
    boxes.write_text("\n".join([*rows, "gone,xclick,/m/3,1,0.1,0.5,0.2,0.7,0"]))
    with open(classes, "w", newline="") as file:
        csv.writer(file).writerows([f"/m/{i}", name] for i, name in enumerate(CATEGORIES))
    return ["data", "openimages-mlperf", str(boxes), str(classes), str(images)]


def test_both_splits_are_prepared_where_they_are_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "annotations"
    assert main([*sources(tmp_path, "train"), "calibration=2"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines == [
        f"4 images, 4 boxes of the 264 classes → {folder / 'openimages-mlperf-train.json'}; 1 images with such boxes "
        f"are not in {tmp_path / 'train' / 'data'}; 2 of them for data.calibration → "
        f"{folder / 'openimages-mlperf-calibration.txt'}"
    ]
    assert main(sources(tmp_path, "validation")) == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "openimages-mlperf-calibration.txt", "openimages-mlperf-train.json", "openimages-mlperf.json",
    ]  # fmt: skip
    options = {"size": 16, "channels": 3, "val_images": 1, "root": str(tmp_path)}
    calibration = str(folder / "openimages-mlperf-calibration.txt")
    data = load_data(DataConfig(name="openimages_mlperf", calibration=calibration, **options))  # type: ignore[arg-type]
    assert data.calibration is not None
    assert [len(split) for split in (data.train, data.val, data.test, data.calibration)] == [3, 1, 4, 2]


def test_other_splits_have_files_of_their_own(tmp_path: Path) -> None:
    """What is described as validation stays so, whatever else is prepared."""
    assert main(sources(tmp_path, "validation")) == 0
    whole = (tmp_path / "annotations" / "openimages-mlperf.json").read_text()
    assert main(sources(tmp_path, "test")) == 0
    assert (tmp_path / "annotations" / "openimages-mlperf.json").read_text() == whole
    listed = json.loads((tmp_path / "annotations" / "openimages-mlperf-test.json").read_text())["images"]
    assert [image["file_name"] for image in listed] == [f"test{number}.jpg" for number in range(4)]


def test_a_folder_that_is_a_link_is_the_split_it_is_called(tmp_path: Path) -> None:
    words = sources(tmp_path, "validation")
    place = tmp_path / "validation" / "data"
    (tmp_path / "elsewhere").mkdir()
    place.rename(tmp_path / "elsewhere" / "oi_val")
    place.symlink_to(tmp_path / "elsewhere" / "oi_val", target_is_directory=True)
    assert main(words) == 0
    assert [path.name for path in (tmp_path / "annotations").iterdir()] == ["openimages-mlperf.json"]


def test_another_file(tmp_path: Path) -> None:
    out = tmp_path / "mine" / "boxes.json"
    assert main([*sources(tmp_path, "train"), f"out={out}"]) == 0
    assert len(json.loads(out.read_text())["images"]) == 4
    assert (
        len((out.parent / "boxes-calibration.txt").read_text().splitlines()) == 4
    )  # all, where there are fewer


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "data: which one? as in: python -m bnas data openimages-mlperf"),
        (["openimages"], "data: no 'openimages'; did you mean 'openimages-mlperf'?"),
        (["openimages-mlperf", "a.csv"], "expected two CSV files and a folder, got 1 words"),
        (
            ["openimages-mlperf", "a.csv", "b.csv", "c", "calibraton=3"],
            "calibraton: no such option; did you mean",
        ),
        (["openimages-mlperf", "a.csv", "b.csv", "c", "calibration=x"], "expected how many images, got 'x'"),
        (["openimages-mlperf", "a.csv", "b.csv", "c", "out=."], "is a folder; give the name of a file"),
        (["openimages-mlperf", "a.csv", "b.csv", "c"], "does not exist"),
    ],
)
def test_other_words_are_refused(
    words: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", *words]) == 2
    shown = capsys.readouterr()
    assert text in shown.err
    assert shown.err.count("\n") == 1
