from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from bnas.accuracy.annotations import Samples, in_class_folders, listed, names_of_classes
from bnas.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images a.png, b c.JPEG and sub/d.png in tmp_path/val."""
    (tmp_path / "val" / "sub").mkdir(parents=True)
    for name in ("a.png", "b c.JPEG", "sub/d.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / "val" / name)
    return tmp_path / "val"


def listing(folder: Path, text: str) -> Path:
    file = folder.parent / "val.txt"
    file.write_text(text)
    return file


def test_imagenets_list(folder: Path) -> None:
    found = listed(listing(folder, "\ufeffa.png 65\n\nb c.JPEG\t970\n"), folder)
    assert found == Samples(paths=(folder / "a.png", folder / "b c.JPEG"), labels=(65, 970))
    assert len(found) == 2


def test_names_with_folders_are_found_in_the_folder_itself_or_below(folder: Path) -> None:
    found = listed(listing(folder, "ILSVRC/val/a.png 1\nx@a.png 2\nsub/d.png 3\n"), folder)
    assert found.paths == (folder / "a.png", folder / "a.png", folder / "sub" / "d.png")


def test_with_a_background_all_classes_move_up_by_one(folder: Path) -> None:
    names = folder.parent / "synset_words.txt"
    names.write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish\n")
    found = listed(listing(folder, "a.png 0\nb c.JPEG 1\n"), folder, has_background=True, labels_file=names)
    assert found.labels == (1, 2)
    assert found.classes == ("background", "tench, Tinca tinca", "goldfish")


def test_a_folder_per_class(folder: Path) -> None:
    for name in ("dog", "cat"):
        (folder / name).mkdir()
        Image.new("RGB", (2, 2)).save(folder / name / "1.png")
    Image.new("RGB", (2, 2)).save(folder / "dog" / "0.png")
    found = in_class_folders(folder)
    assert found.classes == ("cat", "dog", "sub")
    assert [
        (path.parent.name, path.name, label) for path, label in zip(found.paths, found.labels, strict=True)
    ] == [
        ("cat", "1.png", 0),
        ("dog", "0.png", 1),
        ("dog", "1.png", 1),
        ("sub", "d.png", 2),
    ]
    assert in_class_folders(folder, has_background=True).labels == (1, 2, 2, 3)
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="empty: class folder without an image"):
        in_class_folders(folder)


def test_a_few_of_many_are_spread_evenly() -> None:
    many = Samples(paths=tuple(Path(str(i)) for i in range(10)), labels=tuple(range(10)))
    assert many.spread(4).labels == (0, 2, 5, 7)
    assert many.spread(10) is many.spread(99) is many.spread(None) is many


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "a.png 1\nb.png\n",
            "val.txt, line 2: expected a file name and the number of its class, got 'b.png'",
        ),
        ("a.png dog\n", "line 1"),
        ("a.png -1\n", "line 1"),
        ("\n\n", "lists no image"),
        (
            "a.png 1\ngone.png 2\nlost.png 2\nx 1\ny 1\n",
            "4 of the 5 images that .* missing: gone.png, lost.png, x, …; add",
        ),
        (
            "gone.png 2\n",
            "1 of the 1 images that .* missing: gone.png; the folder holds a.png and others: is it",
        ),
    ],
)
def test_a_list_that_does_not_fit_the_folder(text: str, error: str, folder: Path) -> None:
    with pytest.raises(DataError, match=error):
        listed(listing(folder, text), folder)


def test_missing_files_and_folders_are_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.txt does not exist"):
        listed(folder.parent / "nowhere.txt", folder)
    with pytest.raises(DataError, match=r"data_source: no such folder: .*nowhere"):
        listed(listing(folder, "a.png 1\n"), folder / "nowhere")
    with pytest.raises(DataError, match="data_source: no such folder"):
        in_class_folders(folder / "nowhere")
    with pytest.raises(
        DataError, match="no class folder in it; give a list of images and labels with -a FILE"
    ):
        in_class_folders(folder / "sub")
    with pytest.raises(DataError, match=r"a.png is no text"):
        listed(folder / "a.png", folder)


def test_labels_beyond_the_named_classes(folder: Path) -> None:
    names = folder.parent / "labels.txt"
    names.write_text("cat\ndog\n")
    assert names_of_classes(names) == ("cat", "dog")
    with pytest.raises(DataError, match=r"a.png is of class 2, but .*labels.txt names 2 classes, 0 to 1"):
        listed(listing(folder, "a.png 2\n"), folder, labels_file=names)
    names.write_text("")
    with pytest.raises(DataError, match=r"labels.txt: names no class"):
        names_of_classes(names)
