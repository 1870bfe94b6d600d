from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2 as transforms

from bnas.data import DataConfig, batches, load_data
from bnas.data.augment import rand_augment
from bnas.data.folder import FolderImages
from bnas.errors import DataError

COLOURS = {"n01": (200, 10, 10), "n02": (10, 200, 10), "n03": (10, 10, 200)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes of one colour each, 4 training and 2 test images, of unequal sizes, modes and names."""
    for part, n in (("train", 4), ("val", 2)):
        for name, colour in COLOURS.items():
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for i in range(n):
                image = Image.new("RGB", (40 + 10 * i, 50), colour)
                if i == 3:
                    image.quantize(2).save(folder / f"{i}.png")
                elif i == 2:
                    image.convert("CMYK").save(folder / f"{i}.JPEG", quality=95)
                else:
                    image.save(folder / f"{i}.{'JPEG' if i else 'jpg'}", quality=95)
            (folder / "notes.txt").write_text("no image")
    return tmp_path


def config(root: Path | None, **options: object) -> DataConfig:
    given = {"name": "imagenet", "channels": 3, "val_images": 3, "batch_workers": 2} | options
    return DataConfig(root=None if root is None else str(root), **given)  # type: ignore[arg-type]


def test_the_splits_of_an_imagenet_folder(root: Path) -> None:
    data = load_data(config(root))
    assert (len(data.train), len(data.val), len(data.test)) == (9, 3, 6)
    assert data.train.classes == ("n01", "n02", "n03")
    train, val, test = data.train, data.val, data.test
    assert isinstance(train, FolderImages)
    assert isinstance(val, FolderImages)
    assert isinstance(test, FolderImages)
    assert not set(train.paths) & set(val.paths)
    assert all(path.parent.parent.name == "train" for path in train.paths + val.paths)
    assert all(path.parent.parent.name == "val" for path in test.paths)
    assert val.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("augment", [None, 5])
def test_images_are_cropped_and_normalised(root: Path, augment: int | None) -> None:
    data = load_data(config(root, size=24))
    images, labels = data.train.batch(range(9), augment=augment)
    assert images.shape == (9, *data.train.shape) == (9, 3, 24, 24)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for image, label in zip(images, labels, strict=True):
        colour = torch.tensor(list(COLOURS.values())[label]) / 255
        expected = ((colour - mean) / std).view(3, 1, 1).expand(3, 24, 24)
        assert torch.allclose(image, expected, atol=0.05)  # JPEG moves a grey level or two


def noisy(root: Path) -> None:
    rng = np.random.default_rng(0)
    for path in root.rglob("*.JPEG"):
        Image.fromarray(rng.integers(0, 256, (48, 60, 3), dtype=np.uint8)).save(path)


def test_evaluation_is_torchvisions_resize_and_centre_crop(root: Path) -> None:
    noisy(root)
    images = load_data(config(root, size=28)).test
    assert isinstance(images, FolderImages)
    reference = transforms.Compose(
        [
            transforms.Resize(32),
            transforms.CenterCrop(28),
            transforms.PILToTensor(),
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    for i, path in enumerate(images.paths):
        with Image.open(path) as file:
            assert torch.allclose(images.batch([i])[0][0], reference(file.convert("RGB")), atol=1e-5)


def test_training_sees_crops_of_many_sizes_and_their_mirror_images(root: Path) -> None:
    """Red grows with the column and green with the row, so that an image shows where it was cut out."""
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = 2 * np.arange(100), 2 * np.arange(100)[:, None]
    Image.fromarray(pixels).save(root / "train" / "n01" / "0.jpg", quality=100)
    images = load_data(config(root)).train
    assert isinstance(images, FolderImages)
    index = images.paths.index(root / "train" / "n01" / "0.jpg")
    areas, mirrored = [], set()
    for seed in range(40):
        red, green, _ = images.batch([index], augment=seed)[0][0]
        across = (red[:, -1] - red[:, 0]).mean().item() * 0.229 * 255 / 2
        down = (green[-1] - green[0]).mean().item() * 0.224 * 255 / 2
        assert down > 0
        areas.append(abs(across) * down / 100**2)
        mirrored.add(across < 0)
    assert mirrored == {False, True}
    assert min(areas) < 0.3
    assert max(areas) > 0.6


def test_augmentation_is_fixed_by_its_seed_whatever_the_threads(root: Path) -> None:
    noisy(root)
    one, three = (load_data(config(root, batch_workers=n)).train for n in (1, 3))
    first, _ = one.batch(range(9), augment=7)
    assert torch.equal(first, three.batch(range(9), augment=7)[0])
    assert not torch.equal(first, one.batch(range(9), augment=8)[0])
    assert not torch.equal(first, one.batch(range(9))[0])


@pytest.mark.parametrize("parts", [2, 3, 9])
@pytest.mark.parametrize("operations", [0, 2])
def test_shares_of_a_batch_are_the_batch_cut_in_shares(root: Path, parts: int, operations: int) -> None:
    noisy(root)
    images = load_data(config(root, rand_augment=operations)).train
    order = [4, 0, 8, 3, 1, 7, 2, 6, 5]
    whole, labels = images.batch(order, augment=7)
    each = 9 // parts
    shares = [images.batch(order[i : i + each], augment=7, first=i) for i in range(0, each * parts, each)]
    assert torch.equal(whole[: each * parts], torch.cat([share for share, _ in shares]))
    assert torch.equal(labels[: each * parts], torch.cat([own for _, own in shares]))


def test_rand_augment_comes_after_the_crop_and_the_mirror_image_as_in_torchvision(root: Path) -> None:
    """Witness: the crop without it, as bytes, changed by the operation that the same generator draws next."""
    noisy(root)
    plain, more = (
        load_data(config(root, size=24, rand_augment=n, rand_augment_magnitude=25)) for n in (0, 1)
    )
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    changed = 0
    for place in range(9):
        (crop,), _ = plain.train.batch([place], augment=3, first=place)
        (result,), _ = more.train.batch([place], augment=3, first=place)
        pixels = ((crop * std + mean) * 255).round().byte()
        images = plain.train
        assert isinstance(images, FolderImages)
        rng = np.random.default_rng([3, place])
        with Image.open(images.paths[place]) as file:
            images.crops.crop(file.convert("RGB"), rng)
        image = rand_augment(transforms.functional.to_pil_image(pixels), rng.random((1, 2)), 25)
        expected = transforms.functional.pil_to_tensor(image).float().div(255).sub(mean).div(std)
        assert torch.allclose(result, expected, atol=1e-5)
        changed += not torch.equal(result, crop)
    assert changed > 4
    assert torch.equal(plain.val.batch(range(3))[0], more.val.batch(range(3))[0]), "training images alone"


def test_batches_of_files_resume_where_they_were(root: Path) -> None:
    noisy(root)
    images = load_data(config(root)).train
    whole = list(batches(images, 2, augment=lambda number: number))
    rest = list(batches(images, 2, augment=lambda number: number, start=2))
    assert len(whole) == len(rest) + 2
    for (x, _), (y, _) in zip(whole[2:], rest, strict=True):
        assert torch.equal(x, y)


def no_root(root: Path) -> None:
    shutil.rmtree(root)


def no_val(root: Path) -> None:
    shutil.rmtree(root / "val")


def no_classes(root: Path) -> None:
    shutil.rmtree(root / "train")
    (root / "train").mkdir()


def empty_class(root: Path) -> None:
    for path in (root / "train" / "n02").iterdir():
        if path.name != "notes.txt":
            path.unlink()


def class_missing_in_val(root: Path) -> None:
    shutil.rmtree(root / "val" / "n03")


def class_missing_in_train(root: Path) -> None:
    (root / "val" / "n09").mkdir()
    Image.new("RGB", (9, 9)).save(root / "val" / "n09" / "0.png")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (no_root, "no such folder: {root}; expected there: train/<class>"),
        (no_val, "no such folder: {root}/val; expected there: train/<class>"),
        (no_classes, "{root}/train: no class folder in it"),
        (empty_class, "{root}/train/n02: class folder without an image"),
        (class_missing_in_val, "class 'n03' is a folder in {root}/train and not in {root}/val"),
        (class_missing_in_train, "class 'n09' is a folder in {root}/val and not in {root}/train"),
    ],
)
def test_a_folder_that_is_no_imagenet_folder(root: Path, damage: Callable[[Path], None], text: str) -> None:
    damage(root)
    with pytest.raises(DataError, match=text.format(root=root)):
        load_data(config(root))


def cut(jpeg: bytes) -> bytes:
    return jpeg[: len(jpeg) // 2]


@pytest.mark.parametrize("damage", [cut, lambda _: b"", lambda _: b"not an image"])
def test_an_unreadable_image_is_named(root: Path, damage: Callable[[bytes], bytes]) -> None:
    path = root / "val" / "n02" / "1.JPEG"
    packed = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(packed, "JPEG")
    path.write_bytes(damage(packed.getvalue()))
    with pytest.raises(DataError, match=f"{path}: cannot be read as an image"):
        list(batches(load_data(config(root)).test, 2))


def test_an_image_deleted_meanwhile_is_named(root: Path) -> None:
    data = load_data(config(root))
    (root / "val" / "n01" / "0.jpg").unlink()
    with pytest.raises(DataError, match=r"val/n01/0.jpg: cannot be read as an image"):
        data.test.batch([0])


def test_grey_is_refused_for_colour_images(root: Path) -> None:
    with pytest.raises(DataError, match=r"data.channels: .* set 3, got 1"):
        load_data(config(root, channels=1))


def test_without_a_root_it_says_what_is_expected() -> None:
    with pytest.raises(DataError, match=r"needs data.root=FOLDER; expected there: train/<class>"):
        load_data(config(None))
