from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from bnas.accuracy.steps import ASPECT_RATIOS, Crop, Normalize, Pixels, Resize, ReverseChannels, levels
from bnas.errors import ConfigError


def photographs() -> list[Image.Image]:
    """Two photographs that scikit-learn comes with, also on their sides and cut to odd sizes."""
    spec = find_spec("sklearn")
    assert spec is not None
    assert spec.origin is not None
    found = []
    for name in ("china.jpg", "flower.jpg"):
        with Image.open(Path(spec.origin).parent / "datasets" / "images" / name) as file:
            whole = file.convert("RGB")
        found += [whole, whole.transpose(Image.Transpose.ROTATE_90)]
        found += [
            whole.crop((0, 0, *size)) for size in ((333, 257), (257, 333), (256, 256), (301, 427), (64, 81))
        ]
    return found


def pixels(image: Image.Image) -> Pixels:
    return np.asarray(image)


def test_the_seeds_resize_and_crop_are_torchvisions_to_the_bit() -> None:
    resize = Resize(size=256, aspect_ratio_scale="greater", use_pillow=True, interpolation="BILINEAR")
    crop = Crop(size=224, use_pillow=True)
    witness = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    for image in photographs():
        assert np.array_equal(crop(resize(pixels(image))), pixels(witness(image))), image.size


def test_opencvs_resize_differs_from_pillows_where_images_get_smaller() -> None:
    """Which is why a network trained on Pillow's loses accuracy when it is checked without use_pillow."""
    image = pixels(photographs()[0])
    by_pillow = Resize(size=256, aspect_ratio_scale="greater", use_pillow=True)(image)
    by_opencv = Resize(size=256, aspect_ratio_scale="greater")(image)
    assert by_pillow.shape == by_opencv.shape == (256, 383, 3)
    assert np.abs(by_pillow.astype(int) - by_opencv).mean() > 1


@pytest.mark.parametrize(
    "size", [(500, 375), (375, 500), (333, 500), (500, 333), (500, 500), (231, 97), (1, 999)]
)
def test_greater_keeps_the_sides_ratio_as_torchvision_does(size: tuple[int, int]) -> None:
    expected = transforms.Resize(256)(Image.new("RGB", size)).size
    assert ASPECT_RATIOS["greater"]((256, 256), size) == expected


def test_sizes_by_the_other_ratios() -> None:
    assert ASPECT_RATIOS["width"]((200, 100), (30, 40)) == (150, 100)
    assert ASPECT_RATIOS["height"]((200, 100), (30, 40)) == (200, 133)
    assert ASPECT_RATIOS["fit_to_window"]((200, 100), (30, 40)) == (75, 100)
    assert ASPECT_RATIOS["min_ratio"]((200, 100), (30, 40)) == (200, 266)
    stretched = Resize(dst_width=30, dst_height=20, use_pillow=True)
    assert stretched(np.zeros((50, 60, 3), np.uint8)).shape == (20, 30, 3)
    assert Resize(size=8, resize_realization="pillow").pillow


@pytest.mark.parametrize(("height", "width"), [(225, 227), (224, 224), (226, 301), (227, 224)])
def test_pillows_crop_is_torchvisions(height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    expected = pixels(transforms.CenterCrop(224)(Image.fromarray(image)))
    assert np.array_equal(Crop(size=224, use_pillow=True)(image), expected)


@pytest.mark.parametrize(("height", "width"), [(101, 300), (300, 100), (5, 5), (223, 224)])
def test_pillows_crop_frames_an_image_too_small_in_black_as_pillow_does(height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    expected = pixels(Image.fromarray(image).crop((left, top, left + 224, top + 224)))
    assert np.array_equal(Crop(size=224, use_pillow=True)(image), expected)


def test_the_other_crops() -> None:
    image = np.arange(5 * 8 * 3, dtype=np.uint8).reshape(5, 8, 3)
    assert np.array_equal(Crop(size=2)(image), image[1:3, 3:5])  # half a pixel is cut off ...
    assert np.array_equal(Crop(size=2, use_pillow=True)(image), image[2:4, 3:5])  # ... or rounded to even
    assert np.array_equal(Crop(max_square=True)(image), image[:, 1:6])
    assert np.array_equal(Crop(central_fraction=0.5)(image), image[1:3, 2:6])
    assert Crop(dst_width=20, dst_height=10)(image).shape == (10, 20, 3)  # enlarged first
    assert Crop(dst_width=20, dst_height=10)(image + 1).min() > 0  # and not framed in black


def test_channels_are_reversed_and_grey_levels_normalised() -> None:
    image = np.array([[[10, 20, 40]]], np.uint8)
    assert ReverseChannels()(image).tolist() == [[[40, 20, 10]]]
    assert Normalize(mean="10, 20,30", std=2)(image).tolist() == [[[0, 0, 5]]]
    assert Normalize(std=(10.0, 10.0, 20.0))(image).tolist() == [[[1, 2, 2]]]
    by_name = Normalize(mean="imagenet")(image)
    np.testing.assert_allclose(
        by_name[0, 0], [10 - 104.00698793, 20 - 116.66876762, 40 - 122.67891434], rtol=1e-6
    )


def test_numbers_are_read_in_all_their_forms() -> None:
    assert levels("(123.675, 116.28,103.53)", "mean") == (123.675, 116.28, 103.53)
    assert levels("[1,2,3]", "mean") == levels([1, 2, 3], "mean") == (1, 2, 3)
    assert levels(127.5, "mean") == levels("127.5", "mean") == (127.5,)
    assert levels(None, "mean") == (0,)
    for wrong in ("imagnet", "1,2", "1,,3", True and [1, "x", 2], "nan,1,2"):
        with pytest.raises(ConfigError, match="mean: expected one number or three"):
            levels(wrong, "mean")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Resize(), "size: missing"),
        (lambda: Resize(size=0), "size: expected at least 1, got 0"),
        (lambda: Resize(dst_width=3), "dst_height: missing"),
        (lambda: Resize(size=3, aspect_ratio_scale="grater"), "aspect_ratio_scale.*did you mean 'greater'"),
        (lambda: Resize(size=3, aspect_ratio_scale="frcnn_keep_aspect_ratio"), "not for classification"),
        (lambda: Resize(size=3, use_tensorflow=True), "resize_realization.*use pillow"),
        (lambda: Resize(size=3, interpolation="AREA"), "interpolation: 'AREA'"),
        (lambda: Resize(size=3, factor=32), "factor: .*give size alone"),
        (lambda: Crop(), "size: give one of"),
        (lambda: Crop(size=3, max_square=True), "size: give one of"),
        (lambda: Crop(central_fraction=1.5), "central_fraction: expected more than 0, at most 1, got 1.5"),
        (lambda: Normalize(), "mean: missing"),
        (lambda: Normalize(std="1,0,1"), "std: 0 cannot be divided by"),
    ],
)
def test_options_that_do_not_fit_are_refused(make: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make()


def test_pillow_cannot_resize_after_normalization() -> None:
    with pytest.raises(ConfigError, match="comes before normalization"):
        Resize(size=4, use_pillow=True)(np.zeros((8, 8, 3), np.float32))
