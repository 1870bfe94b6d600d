from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bnas.accuracy.resampling import interpolate, pillow_filter
from bnas.errors import ConfigError

SIZES = [((37, 53), (256, 367)), ((300, 200), (256, 256)), ((64, 64), (64, 64)), ((90, 31), (13, 200))]


@pytest.mark.parametrize(("old", "new"), SIZES)
@pytest.mark.parametrize(
    ("name", "mode"), [("LINEAR", "bilinear"), ("bicubic", "bicubic"), ("NEAREST", "nearest")]
)
def test_it_is_torchs_interpolation_with_half_pixel_centres(
    old: tuple[int, int], new: tuple[int, int], name: str, mode: str
) -> None:
    image = np.random.default_rng(1).uniform(0, 255, (*old, 3)).astype(np.float32)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    options = {} if mode == "nearest" else {"align_corners": False, "antialias": False}
    expected = F.interpolate(planes, new, mode=mode, **options)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(interpolate(image, new, name), expected, atol=2e-3)


def test_bytes_stay_bytes_and_are_rounded() -> None:
    image = np.array([[[0, 10, 255], [1, 13, 255]]], np.uint8)
    doubled = interpolate(image, (1, 4), "BILINEAR")
    assert doubled.dtype == np.uint8
    assert doubled[0, :, 1].tolist() == [10, 11, 12, 13]  # 10, 10.75, 12.25, 13
    overshot = np.zeros((4, 4, 3), np.uint8)
    overshot[:, 2:] = 255
    assert interpolate(overshot, (16, 16), "CUBIC").min() == 0  # not wrapped around to 255 below the edge
    assert interpolate(overshot, (16, 16), "CUBIC")[:, :6].max() < 128


@pytest.mark.parametrize("name", ["AREA", "LANCZOS4", "bilinar"])
def test_other_filters_of_opencvs_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"interpolation: '{name}'.*use_pillow: True there are .*LANCZOS"):
        interpolate(np.zeros((2, 2, 3), np.uint8), (4, 4), name)


def test_pillows_filters_have_the_checkers_names() -> None:
    assert pillow_filter("bilinear") is pillow_filter("LINEAR")
    assert pillow_filter("ANTIALIAS") is pillow_filter("LANCZOS")
    with pytest.raises(ConfigError, match="Pillow has no 'BILINER'; did you mean 'BILINEAR'"):
        pillow_filter("BILINER")
