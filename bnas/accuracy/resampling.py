"""Resizing an image as OpenCV computes it, without OpenCV; and the names of Pillow's filters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bnas.errors import ConfigError, did_you_mean

PILLOW = {
    "NEAREST": Image.Resampling.NEAREST,
    "BILINEAR": Image.Resampling.BILINEAR,
    "LINEAR": Image.Resampling.BILINEAR,
    "BICUBIC": Image.Resampling.BICUBIC,
    "CUBIC": Image.Resampling.BICUBIC,
    "BOX": Image.Resampling.BOX,
    "LANCZOS": Image.Resampling.LANCZOS,
    "ANTIALIAS": Image.Resampling.LANCZOS,
    "HAMMING": Image.Resampling.HAMMING,
}
OPENCV = {"NEAREST": 1, "LINEAR": 2, "BILINEAR": 2, "CUBIC": 4, "BICUBIC": 4}
"""How many pixels a side each of OpenCV's filters reads."""

_SHARPNESS = -0.75  # OpenCV's a in Keys' cubic (IEEE ASSP 29, 1981); Pillow's is -0.5


def pillow_filter(name: str) -> Image.Resampling:
    """Pillow's filter called `name`, in upper or lower case.

    Raises:
        ConfigError: Pillow has no such filter.
    """
    if name.upper() not in PILLOW:
        raise ConfigError(f"interpolation: Pillow has no {name!r}{did_you_mean(name.upper(), PILLOW)}")
    return PILLOW[name.upper()]


def interpolate(image: NDArray[Any], size: tuple[int, int], name: str) -> NDArray[Any]:
    """`image` [H, W, C] at `size` (height, width): what cv2.resize computes, in the image's own type.

    Pixel centres are at half numbers and pixels beyond the border repeat it. OpenCV rounds its weights to 1/2048,
    so that a grey level can differ by 1 of 255 from what is computed here.

    Raises:
        ConfigError: a filter that is not computed here.
    """
    if name.upper() not in OPENCV:
        raise ConfigError(
            f"interpolation: {name!r} is not computed here as OpenCV does{did_you_mean(name.upper(), OPENCV)}; "
            f"with use_pillow: True there are {', '.join(sorted(PILLOW))}"
        )
    reach = OPENCV[name.upper()]
    if reach == 1:  # the pixels themselves, in whatever type they have
        rows, columns = (_nearest(old, new) for old, new in zip(image.shape[:2], size, strict=True))
        picked: NDArray[Any] = image[rows][:, columns]
        return picked
    smooth = _along(_along(image.astype(np.float32), size[0], reach, 0), size[1], reach, 1)
    if image.dtype != np.uint8:
        return smooth
    return np.clip(np.floor(smooth + 0.5), 0, 255).astype(np.uint8)


def _along(image: NDArray[Any], new: int, reach: int, axis: int) -> NDArray[Any]:
    """`image` with `new` pixels along `axis` (0 or 1), each a weighted sum of `reach` old ones."""
    old = image.shape[axis]
    place = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(place)
    weights = (_cubic if reach == 4 else _linear)((place - first).astype(np.float32))
    result = np.zeros((*image.shape[:axis], new, *image.shape[axis + 1 :]), np.float32)
    for step, weight in enumerate(weights):
        taken = np.clip(first.astype(int) + step - (reach // 2 - 1), 0, old - 1)
        result += np.take(image, taken, axis) * weight.reshape(-1, *(1,) * (image.ndim - 1 - axis))
    return result


def _nearest(old: int, new: int) -> NDArray[Any]:
    taken: NDArray[Any] = np.minimum((np.arange(new) * (old / new)).astype(int), old - 1)
    return taken


def _linear(t: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    return 1 - t, t


def _cubic(t: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    a = _SHARPNESS

    def near(x: NDArray[Any]) -> NDArray[Any]:
        inner: NDArray[Any] = ((a + 2) * x - (a + 3)) * x * x + 1
        return inner

    def far(x: NDArray[Any]) -> NDArray[Any]:
        outer: NDArray[Any] = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return outer

    return far(t + 1), near(t), near(1 - t), far(2 - t)
