from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from bnas.data.crops import Crops, decoders, normalise, random_crop, read_rgb
from bnas.errors import DataError


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_random_crops_stay_inside_and_have_the_area_and_ratio_they_should() -> None:
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(300):
        top, left, height, width = random_crop(120, 150, rng)
        assert 0 <= top <= 120 - height
        assert 0 <= left <= 150 - width
        assert 0.7 < width / height < 1.4
        areas.append(height * width / (120 * 150))
    assert min(areas) > 0.07
    assert min(areas) < 0.2
    assert max(areas) > 0.7


def test_a_very_long_image_is_cropped_in_its_centre() -> None:
    assert random_crop(1000, 2, np.random.default_rng(0)) == (498, 0, 3, 2)


def test_normalised_pixels_are_torchs_to_the_last_bit() -> None:
    image = Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3))
    out = np.empty((3, 16, 16), np.float32)
    normalise(image, out)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = F.pil_to_tensor(image).float().div_(255).sub_(mean).div_(std)
    assert torch.equal(torch.from_numpy(out), expected)


@pytest.mark.parametrize("size", [8, 21, 28, 64])
@pytest.mark.parametrize("width", range(90, 97))
@pytest.mark.parametrize("height", [90, 101, 151, 152])
def test_the_square_has_the_same_centre_crop_as_the_whole_image(size: int, width: int, height: int) -> None:
    crops = Crops(size=size)
    for image in (picture(width, height), picture(height, width)):
        square = crops.square(image)
        assert square.size == (crops.resized, crops.resized)
        whole, from_square = crops.crop(image, None), crops.crop(square, None)
        assert whole.size == (size, size)
        assert whole.tobytes() == from_square.tobytes()


def test_an_image_smaller_than_the_crop_is_enlarged() -> None:
    crops = Crops(size=32)
    assert crops.crop(picture(5, 9), None).size == (32, 32)
    assert crops.crop(picture(5, 9), np.random.default_rng(0)).size == (32, 32)
    assert crops.square(picture(5, 9)).size == (37, 37)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1"])
def test_files_of_every_mode_are_read_in_colour(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    picture(20, 12).convert(mode).save(path)
    with Image.open(path) as file:
        expected = file.convert("RGB").tobytes()
    image = read_rgb(path)
    assert image.mode == "RGB"
    assert image.tobytes() == expected


def test_what_a_decoding_thread_raises_is_raised_to_the_caller() -> None:
    def load(index: int) -> Image.Image:
        if index == 3:
            raise DataError("image 3 is damaged")
        return picture(9, 9)

    with pytest.raises(DataError, match="image 3 is damaged"):
        Crops(size=8, threads=2).batch(load, range(6))


def test_the_threads_that_decode_are_made_once() -> None:
    names = set()

    def load(index: int) -> Image.Image:
        names.add(threading.current_thread().name)
        return picture(9, 9)

    crops = Crops(size=8, threads=3)
    for _ in range(4):
        crops.batch(load, range(6))
    assert len(names) <= 3
    assert decoders(3) is decoders(3)


def _decode_in_child(queue: multiprocessing.Queue[float]) -> None:
    queue.put(float(Crops(size=8, threads=2).batch(lambda index: picture(9, 9), range(4)).sum()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_decodes_with_threads_of_its_own() -> None:
    expected = float(Crops(size=8, threads=2).batch(lambda index: picture(9, 9), range(4)).sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_decode_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(60)
    assert child.exitcode == 0
