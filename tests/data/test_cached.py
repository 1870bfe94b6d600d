from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bnas import progress
from bnas.data import DataConfig, Images, check_images, load_data
from bnas.data import cached as module
from bnas.data.cached import CachedImages, cached_pixels
from bnas.data.crops import Crops, read_rgb
from bnas.errors import DataError, RunError

SIZES = ((48, 60), (61, 47), (50, 50), (90, 31))  # width, height


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, 4 training and 4 test images of noise each."""
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for i, (width, height) in enumerate(SIZES):
                pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.jpg", quality=90)
    return tmp_path / "images"


def loaded(root: Path, **options: Any) -> Any:
    given = {"size": 24, "channels": 3, "val_images": 2, "batch_workers": 2} | options
    return load_data(DataConfig(name="imagenet", root=str(root), **given))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def cached(root: Path, **options: Any) -> Any:
    return loaded(root, cache=str(root.parent / "cache"), **options)


def paths_of(root: Path) -> list[Path]:
    return sorted(root.rglob("*.jpg"))


def decodes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded for a cache from now on."""
    seen: list[Path] = []

    def read(path: Path) -> Image.Image:
        seen.append(path)
        return read_rgb(path)

    monkeypatch.setattr(module, "read_rgb", read)
    return seen


def test_evaluation_from_the_cache_is_evaluation_of_the_files_to_the_last_bit(root: Path) -> None:
    anew, kept = loaded(root), cached(root)
    for part in ("train", "val", "test"):
        files: Images = getattr(anew, part)
        own: Images = getattr(kept, part)
        assert isinstance(own, CachedImages)
        assert (own.shape, own.classes, len(own)) == (files.shape, files.classes, len(files))
        check_images(own)
        for a, b in zip(files.batch(range(len(files))), own.batch(range(len(files))), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("operations", [0, 2])
def test_training_crops_are_cut_from_the_squares_with_the_draws_of_the_files(
    root: Path, operations: int
) -> None:
    """Witness: the square made here, cut by the same code that cuts files, with the seed of (augment, place)."""
    images = cached(root, rand_augment=operations).test
    files = loaded(root, rand_augment=operations).test
    batch, _ = images.batch([5, 2, 5], augment=9, first=4)
    for place, index in enumerate([5, 2, 5]):
        square = files.crops.square(read_rgb(files.paths[index]))
        crop = files.crops.crop(square, np.random.default_rng([9, 4 + place]))
        pixels = torch.from_numpy(np.asarray(crop).copy()).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        assert torch.allclose(batch[place], (pixels - mean) / std, atol=1e-5)
    assert not torch.equal(batch[0], batch[2]), "one image, two places"
    assert torch.equal(batch, images.batch([5, 2, 5], augment=9, first=4)[0])


def test_shares_of_a_batch_are_the_batch_cut_in_shares(root: Path) -> None:
    images = cached(root, rand_augment=1).test
    whole, _ = images.batch([7, 1, 0, 6], augment=3)
    parts = [images.batch([7, 1], augment=3)[0], images.batch([0, 6], augment=3, first=2)[0]]
    assert torch.equal(whole, torch.cat(parts))


def test_images_are_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = decodes(monkeypatch)
    first = cached(root)
    assert sorted(seen) == paths_of(root)
    made = files(root.parent / "cache")
    assert len(made) == 3
    again = cached(root)
    assert len(seen) == 16
    assert files(root.parent / "cache") == made
    assert torch.equal(first.train.batch([0])[0], again.train.batch([0])[0])


def test_the_pixels_stay_on_the_disk(root: Path) -> None:
    pixels = cached(root).train.pixels
    assert pixels.shape == (6, 27, 27, 3)
    assert pixels.dtype == np.uint8
    assert isinstance(pixels.base, np.memmap)
    assert not pixels.flags.writeable


@pytest.mark.parametrize("change", ["content", "time", "name", "size of the crop"])
def test_changed_images_are_decoded_anew(root: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(root)
    seen, path = decodes(monkeypatch), root / "val" / "cat" / "1.jpg"
    if change == "content":
        times = path.stat()
        Image.new("RGB", (30, 30), (255, 0, 0)).save(path)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif change == "time":
        os.utime(path, (1, 1))
    elif change == "name":
        path = path.rename(path.with_name("1b.jpg"))
    again = cached(root, size=32 if change == "size of the crop" else 24).test
    assert len(seen) == (16 if change == "size of the crop" else 8)
    assert path in seen
    if change == "content":
        red = again.batch([1])[0][0]
        assert red[0].min() > 2
        assert red[1].max() < -1.9


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError("torn")])
def test_interrupted_writing_leaves_nothing(
    root: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def read(path: Path) -> Image.Image:
        calls.append(path)
        if len(calls) == 4:
            raise error
        return read_rgb(path)

    monkeypatch.setattr(module, "read_rgb", read)
    with pytest.raises(type(error) if isinstance(error, Exception) else KeyboardInterrupt):
        cached(root)
    assert files(root.parent / "cache") == []
    monkeypatch.undo()
    assert torch.equal(cached(root).train.batch([3])[0], loaded(root).train.batch([3])[0])


def test_what_a_killed_process_left_is_never_read_and_is_removed(root: Path) -> None:
    folder, crops = root.parent / "cache", Crops(size=24)
    pixels = cached_pixels(paths_of(root), crops, folder)
    (name,) = files(folder)
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    leftover = folder / f"{Path(name).stem}.elsewhere-1.partial"
    leftover.write_bytes(whole[:200])
    other = folder / "another.elsewhere-1.partial"
    other.write_bytes(b"")
    assert np.array_equal(cached_pixels(paths_of(root), crops, folder), pixels)
    assert files(folder) == sorted([name, other.name])


@pytest.mark.parametrize("keep", [0, 50, 500])
def test_a_damaged_file_says_what_to_do(root: Path, keep: int) -> None:
    cached_pixels(paths_of(root), Crops(size=24), root.parent / "cache")
    (name,) = files(root.parent / "cache")
    path = root.parent / "cache" / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"\.npy: is damaged .*; delete it, and it is written again"):
        cached_pixels(paths_of(root), Crops(size=24), root.parent / "cache")


def test_a_file_of_other_contents_is_refused(root: Path) -> None:
    cached_pixels(paths_of(root), Crops(size=24), root.parent / "cache")
    (name,) = files(root.parent / "cache")
    np.save(root.parent / "cache" / name, np.zeros((16, 27, 27)))
    with pytest.raises(DataError, match=r"is damaged \(shape \(16, 27, 27\)\)"):
        cached_pixels(paths_of(root), Crops(size=24), root.parent / "cache")


def test_a_damaged_image_is_named_and_leaves_nothing(root: Path) -> None:
    path = root / "val" / "dog" / "2.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=f"{path}: cannot be read as an image"):
        cached(root)
    assert not [name for name in files(root.parent / "cache") if not name.endswith(".npy")]


def test_a_missing_image_is_named(root: Path) -> None:
    missing = root / "val" / "dog" / "none.jpg"
    with pytest.raises(DataError, match=f"{missing}: cannot be read as an image"):
        cached_pixels([missing], Crops(size=24), root.parent / "cache")


def test_a_disk_too_small_is_said_before_the_work(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = decodes(monkeypatch)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10_000))
    with pytest.raises(DataError, match=r"16 images of 27x27 pixels take 0.0 GB, and 0.0 GB are free"):
        cached_pixels(paths_of(root), Crops(size=24), root.parent / "cache")
    assert not seen


def test_a_folder_that_cannot_be_made_is_named(root: Path) -> None:
    with pytest.raises(RunError, match=r"cannot write .*/0\.jpg/cache/.*\.npy: Not a directory"):
        cached_pixels(paths_of(root), Crops(size=24), root / "val" / "cat" / "0.jpg" / "cache")


def test_a_second_process_waits_and_reads_what_the_first_has_written(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process is played by a lock held here and a file put in place from elsewhere."""
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "cache"
    expected = cached_pixels(paths_of(root), Crops(size=24), elsewhere)
    seen, said, made = decodes(monkeypatch), threading.Event(), []
    monkeypatch.setattr(progress, "say", lambda line: said.set())
    folder.mkdir()
    with module._only_one(folder) as alone:
        assert alone
        second = threading.Thread(
            target=lambda: made.append(cached_pixels(paths_of(root), Crops(size=24), folder))
        )
        second.start()
        assert said.wait(30), "it says that it waits"
        (name,) = files(elsewhere)
        shutil.copy(elsewhere / name, folder / name)
        assert not made
    second.join(30)
    assert np.array_equal(made[0], expected)
    assert not seen
