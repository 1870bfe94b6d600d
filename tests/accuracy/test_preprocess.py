from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bnas.accuracy.preprocess import READERS, channel_order, read_steps
from bnas.errors import ConfigError, DataError

RED = [200, 100, 50]


@pytest.fixture
def red(tmp_path: Path) -> Path:
    """A reddish picture, 4 wide and 2 high, whose upper left pixel is black."""
    image = np.full((2, 4, 3), RED, np.uint8)
    image[0, 0] = 0
    Image.fromarray(image).save(tmp_path / "red.png")
    return tmp_path / "red.png"


def test_pillow_reads_rgb_and_opencv_bgr(red: Path) -> None:
    assert READERS["pillow_imread"][0](red)[1, 1].tolist() == RED
    assert READERS["opencv_imread"][0](red)[1, 1].tolist() == RED[::-1]
    assert READERS["pillow_imread"][1] == "RGB"
    assert READERS["opencv_imread"][1] == "BGR"


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_images_of_other_modes_are_read_in_colour(mode: str, tmp_path: Path) -> None:
    suffix = "tiff" if mode == "CMYK" else "png"
    Image.new("L", (5, 3), 255).convert("RGB").convert(mode).save(tmp_path / f"white.{suffix}")
    for read, _ in READERS.values():
        image = read(tmp_path / f"white.{suffix}")
        assert image.shape == (3, 5, 3)
        assert image.min() == 255


def test_opencv_follows_a_cameras_rotation_mark_and_pillow_does_not(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    picture = Image.new("RGB", (40, 20))
    picture.paste((255, 255, 255), (0, 0, 20, 20))  # the left half is white; upright, the upper one
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    stored, upright = (
        READERS[name][0](tmp_path / "turned.jpg") for name in ("pillow_imread", "opencv_imread")
    )
    assert stored.shape == (20, 40, 3)
    assert upright.shape == (40, 20, 3)
    assert stored[10, 5].min() > 240 > 15 > stored[10, 35].max()
    assert upright[5, 10].min() > 240 > 15 > upright[35, 10].max()


def test_bgr_to_rgb_after_pillow_gives_bgr_which_reverse_input_channels_turns_back(red: Path) -> None:
    """The seed's way: what its steps are called is not what they do, and together they are right."""
    steps = read_steps([{"type": "bgr_to_rgb"}], "preprocessing")
    read, order = READERS["pillow_imread"]
    assert steps[0](read(red))[1, 1].tolist() == RED[::-1]
    assert channel_order(order, steps) == "BGR"
    assert channel_order(order, steps, reverse=True) == "RGB"
    assert channel_order("BGR", steps) == "RGB"
    assert channel_order("BGR", read_steps([{"type": "rgb_to_bgr"}, {"type": "bgr_to_rgb"}], "")) == "BGR"


def test_steps_are_read_in_order(red: Path) -> None:
    steps = read_steps(
        [
            {"type": "resize", "size": 8, "use_pillow": True},
            {"type": "crop", "dst_width": 6, "dst_height": 4},
            {"type": "normalization", "mean": RED, "std": 2},
        ],
        "preprocessing",
    )
    image = READERS["pillow_imread"][0](red)
    for step in steps:
        image = step(image)
    assert image.shape == (4, 6, 3)
    assert image[-1, -1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (
            {"type": "bgr_to_lab"},
            r"p\[1\].type: 'bgr_to_lab' is not done here; did you mean 'bgr_to_rgb'.*beforehand",
        ),
        ({"type": "tiling"}, "known: bgr_to_rgb, crop"),
        ({"size": 3}, r"p\[1\]: expected a step with a type"),
        ("crop", r"p\[1\]: expected a step with a type"),
        ({"type": "crop", "sizes": 3}, r"p\[1\].sizes: no such option; did you mean 'size'"),
        ({"type": "crop", "size": "big"}, r"p\[1\].size: expected int"),
        ({"type": "crop", "size": -3}, r"p\[1\].size: expected at least 1, got -3"),
    ],
)
def test_a_step_that_cannot_be_done_is_named(entry: object, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        read_steps([{"type": "bgr_to_rgb"}, entry], "p")


def test_no_list_of_steps() -> None:
    with pytest.raises(ConfigError, match="p: expected a list of steps"):
        read_steps({"type": "crop"}, "p")


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "half.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of a picture")
    for read, _ in READERS.values():
        with pytest.raises(DataError, match=r"half.jpg: cannot be read as an image"):
            read(tmp_path / "half.jpg")
