"""The steps of the accuracy checker's `preprocessing`: each a frozen set of its options that is called with an image.

An image is an array [H, W, 3], uint8 until `normalization`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bnas.accuracy.resampling import interpolate, pillow_filter
from bnas.errors import ConfigError, did_you_mean

Pixels = NDArray[Any]
Size = tuple[int, int]

# How large an image of (width, height) becomes, given the wanted (width, height): cut to whole pixels, not rounded.
ASPECT_RATIOS: dict[str, Callable[[Size, Size], Size]] = {
    "width": lambda to, of: (int(to[0] * of[0] / of[1]), to[1]),
    "height": lambda to, of: (to[0], int(to[1] * of[1] / of[0])),
    "greater": lambda to, of: ASPECT_RATIOS["height" if of[1] > of[0] else "width"](to, of),
    "fit_to_window": lambda to, of: _scaled(of, min(to[1] / of[1], to[0] / of[0])),
    "min_ratio": lambda to, of: _divided(of, min(of[1] / to[1], of[0] / to[0])),
}
# Grey levels that `normalization` knows by a name, in the order of OpenCV's channels; both for mean and std.
KNOWN_LEVELS = {
    "imagenet": (104.00698793, 116.66876762, 122.67891434),
    "cifar10": (125.307, 122.961, 113.8575),
}


@dataclass(frozen=True, kw_only=True)
class Resize:
    """`resize`: to `size` x `size` or dst_width x dst_height, or with the image's own ratio of sides kept.

    With `use_pillow` exactly what torchvision's Resize does to an image of Pillow's; else what OpenCV computes,
    which reads two pixels a side however much smaller the image gets.
    """

    size: int | None = None
    dst_width: int | None = None
    dst_height: int | None = None
    aspect_ratio_scale: str | None = None
    interpolation: str = "LINEAR"
    use_pillow: bool = False
    resize_realization: str | None = None
    use_tensorflow: bool = False
    factor: int | None = None
    scale: float | None = None
    include_boundary: bool = False

    def __post_init__(self) -> None:
        _check_size(self.size, self.dst_width, self.dst_height)
        if self.size is None and self.dst_width is None:
            raise ConfigError("size: missing; give size, or dst_width and dst_height")
        ratio = self.aspect_ratio_scale
        if ratio is not None and ratio not in ASPECT_RATIOS:
            raise ConfigError(
                f"aspect_ratio_scale: {ratio!r} is not for classification{did_you_mean(ratio, ASPECT_RATIOS)}"
            )
        if self.use_tensorflow or self.resize_realization not in (None, "pillow", "opencv"):
            raise ConfigError(
                "resize_realization: images are resized as Pillow or OpenCV do it; use pillow, which reduces "
                "images without aliasing, too"
            )
        if self.factor is not None or self.scale is not None:
            raise ConfigError("factor: factor and scale are for detection; give size alone")
        pillow_filter(self.interpolation) if self.pillow else interpolate(_DOT, (1, 1), self.interpolation)

    @property
    def pillow(self) -> bool:
        return self.use_pillow if self.resize_realization is None else self.resize_realization == "pillow"

    def __call__(self, image: Pixels) -> Pixels:
        height, width = image.shape[:2]
        wanted = (self.size or self.dst_width or 0, self.size or self.dst_height or 0)
        if self.aspect_ratio_scale is not None:
            wanted = ASPECT_RATIOS[self.aspect_ratio_scale](wanted, (width, height))
        wanted = (max(1, wanted[0]), max(1, wanted[1]))
        if not self.pillow:
            return interpolate(image, (wanted[1], wanted[0]), self.interpolation)
        if image.dtype != np.uint8:
            raise ConfigError("preprocessing: resize with Pillow comes before normalization")
        return np.asarray(Image.fromarray(image).resize(wanted, pillow_filter(self.interpolation)))


@dataclass(frozen=True, kw_only=True)
class Crop:
    """`crop`: the middle. With `use_pillow` half a pixel is rounded to even, exactly as torchvision's CenterCrop does.

    An image too small is then framed in black. Without, half a pixel is cut off, and an image too small is enlarged
    as OpenCV does it.
    """

    size: int | None = None
    dst_width: int | None = None
    dst_height: int | None = None
    use_pillow: bool = False
    central_fraction: float | None = None
    max_square: bool = False

    def __post_init__(self) -> None:
        _check_size(self.size, self.dst_width, self.dst_height)
        sized = self.size is not None or self.dst_width is not None
        if sized + (self.central_fraction is not None) + self.max_square != 1:
            raise ConfigError(
                "size: give one of size, dst_width and dst_height, central_fraction, max_square"
            )
        if self.central_fraction is not None and not 0 < self.central_fraction <= 1:
            raise ConfigError(
                f"central_fraction: expected more than 0, at most 1, got {self.central_fraction}"
            )

    def __call__(self, image: Pixels) -> Pixels:
        height, width = image.shape[:2]
        if self.max_square:
            new = (min(height, width), min(height, width))
        elif self.central_fraction is not None:
            new = (int(height * self.central_fraction), int(width * self.central_fraction))
        else:
            new = (self.size or self.dst_height or 0, self.size or self.dst_width or 0)
        if self.use_pillow:
            return _window(image, round((height - new[0]) / 2), round((width - new[1]) / 2), *new)
        if height < new[0] or width < new[1]:
            grown = max(new[0] / height, new[1] / width)
            image = interpolate(image, (_ceil(height * grown), _ceil(width * grown)), "LINEAR")
            height, width = image.shape[:2]
        return _window(image, (height - new[0]) // 2, (width - new[1]) // 2, *new)


@dataclass(frozen=True, kw_only=True)
class ReverseChannels:
    """`bgr_to_rgb` and `rgb_to_bgr`: the channels the other way round, whatever they are."""

    def __call__(self, image: Pixels) -> Pixels:
        return image[..., ::-1]


@dataclass(frozen=True, kw_only=True)
class Normalize:
    """`normalization`: (image - mean) / std in grey levels, 0 to 255, per channel in the image's own order."""

    mean: str | int | float | tuple[float, ...] | None = None
    std: str | int | float | tuple[float, ...] | None = None
    images_only: bool = False

    def __post_init__(self) -> None:
        if self.mean is None and self.std is None:
            raise ConfigError("mean: missing; give mean, std or both")
        levels(self.mean, "mean")
        if 0 in levels(self.std, "std", default=1):
            raise ConfigError("std: 0 cannot be divided by")

    def __call__(self, image: Pixels) -> Pixels:
        mean = np.array(levels(self.mean, "mean"), np.float32)
        std = np.array(levels(self.std, "std", default=1), np.float32)
        changed: Pixels = (image.astype(np.float32) - mean) / std
        return changed


def levels(value: Any, where: str, *, default: float = 0) -> tuple[float, ...]:
    """One number for all channels, or one each, as `123.675`, `"(123.675, 116.28,103.53)"` or a known name.

    Raises:
        ConfigError: it is none of these.
    """
    if value is None:
        return (default,)
    if isinstance(value, str) and value in KNOWN_LEVELS:
        return KNOWN_LEVELS[value]
    parts = value.strip().strip("()[]").split(",") if isinstance(value, str) else value
    try:
        numbers = tuple(float(part) for part in (parts if isinstance(parts, (list, tuple)) else (parts,)))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: expected one number or three, as 1,2,3, got {value!r}") from error
    if len(numbers) not in (1, 3) or not all(np.isfinite(numbers)):
        raise ConfigError(f"{where}: expected one number or three, as 1,2,3, got {value!r}")
    return numbers


def _check_size(size: int | None, width: int | None, height: int | None) -> None:
    for name, value in (("size", size), ("dst_width", width), ("dst_height", height)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}: expected at least 1, got {value}")
    if size is None and (width is None) != (height is None):
        missing = "dst_width" if width is None else "dst_height"
        raise ConfigError(f"{missing}: missing; give both dst_width and dst_height, or size")


def _window(image: Pixels, top: int, left: int, height: int, width: int) -> Pixels:
    """height x width pixels from (top, left) on; black where that is outside."""
    inside = image[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if inside.shape[:2] == (height, width):
        return inside
    framed = np.zeros((height, width, *image.shape[2:]), image.dtype)
    rows, columns = max(-top, 0), max(-left, 0)
    framed[rows : rows + inside.shape[0], columns : columns + inside.shape[1]] = inside
    return framed


def _scaled(of: Size, by: float) -> Size:
    return int(by * of[0]), int(by * of[1])


def _divided(of: Size, by: float) -> Size:
    return int(of[0] / by), int(of[1] / by)


def _ceil(x: float) -> int:
    return int(np.ceil(x))


_DOT = np.zeros((1, 1, 3), np.uint8)
