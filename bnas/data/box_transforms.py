"""Random windows, mirror images and colours of images with boxes, by torchvision's transforms v2.

Each transform that moves pixels is a window on the image, which may reach beyond it: the window is chosen
first, and pixels and boxes are moved once. Numbers are drawn here from a generator of their own, because
torchvision's classes read the global one, which threads would share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as transforms

from bnas.detection import Boxes
from bnas.errors import ConfigError, did_you_mean

STEPS = ("zoom_out", "scale_jitter", "iou_crop", "photometric")
_FILL = (124, 116, 104)  # ImageNet's mean colour
_ZOOM = 4.0  # largest side of the canvas, of the image's (Liu et al. 2016, §3.6: 16 times the area)
_JITTER = (0.5, 2.0)
_OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # Liu et al. 2016, §2.2; 1: no crop
_CROP_SIDE, _CROP_RATIO, _TRIALS = (0.3, 1.0), (0.5, 2.0), 40


class Window(NamedTuple):
    """A rectangle in pixels of the image, of which it may reach out."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class BoxTransforms:
    """What a seeded augmentation does to an image with boxes.

    `flip`: a mirror image, half of the time. `steps`, each by chance and in the order of `STEPS`, whatever
    theirs is: "zoom_out" (onto a larger canvas of ImageNet's mean colour) and "iou_crop" (a window that
    overlaps some box by so much) are SSD's (Liu et al. 2016); "scale_jitter" scales the image by 0.5 to 2
    into a window of its own size; "photometric" changes brightness, contrast, saturation, hue and the order
    of the channels. What torchvision's classes of these names do by default, these do.
    """

    flip: bool = True
    steps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def __call__(
        self, image: Image.Image, boxes: Boxes, size: int, rng: np.random.Generator
    ) -> tuple[Image.Image, Boxes]:
        """The RGB image, augmented, as size x size pixels, and its boxes; those left with no area are gone.

        A window keeps the boxes whose centres are in it, and crowds of which it shows anything.
        """
        window = Window(0, 0, image.width, image.height)
        if "zoom_out" in self.steps:
            window = zoomed_out(window, rng)
        if "scale_jitter" in self.steps:
            window = scale_jittered(window, rng)
        if "iou_crop" in self.steps:
            window = iou_cropped(window, boxes.boxes.numpy() * ([image.width, image.height] * 2), rng)
        image, boxes = shown(image, boxes, window, size)
        if self.flip and rng.random() < 0.5:
            image, boxes = mirrored(image, boxes)
        return (recoloured(image, rng) if "photometric" in self.steps else image), boxes


def check_steps(steps: Sequence[str]) -> None:
    """Check that all are names of transforms. Raises ConfigError."""
    for step in steps:
        if step not in STEPS:
            raise ConfigError(f"box_augment: no transform {step!r}{did_you_mean(step, STEPS)}")


def shown(image: Image.Image, boxes: Boxes, window: Window, size: int) -> tuple[Image.Image, Boxes]:
    """What `window` shows of the RGB image, as size x size pixels, with its boxes."""
    whole = Window(0, 0, image.width, image.height)
    if window == whole:
        return transforms.resize(image, [size, size]), boxes
    left, top = max(window.left, 0), max(window.top, 0)
    right = min(window.left + window.width, image.width)
    bottom = min(window.top + window.height, image.height)
    if right <= left or bottom <= top:  # zoomed out, and then a window beside the image
        nothing = torch.zeros(len(boxes), dtype=torch.bool)
        return Image.new("RGB", (size, size), _FILL), _changed(boxes, boxes.boxes[nothing], nothing)
    inner = transforms.crop(image, top, left, bottom - top, right - left)
    if (right - left, bottom - top) != (window.width, window.height):  # what lies beyond has the mean colour
        across, down = size / window.width, size / window.height
        x1, y1 = round((left - window.left) * across), round((top - window.top) * down)
        x2, y2 = round((right - window.left) * across), round((bottom - window.top) * down)
        inner = transforms.resize(inner, [max(y2 - y1, 1), max(x2 - x1, 1)])
        canvas = Image.new("RGB", (size, size), _FILL)
        canvas.paste(inner, (x1, y1))
        inner = canvas
    pixels = _pixels(boxes.boxes, image.width, image.height)
    centres = (pixels[:, :2] + pixels[:, 2:]) / 2 - torch.tensor([window.left, window.top])
    moved: Any = transforms.resized_crop(
        pixels, window.top, window.left, window.height, window.width, [size, size]
    )
    moved = transforms.clamp_bounding_boxes(moved).as_subclass(Tensor)
    inside = ((centres > 0) & (centres < torch.tensor([window.width, window.height]))).all(1)
    seen = (moved[:, 2:] - moved[:, :2] > 0).all(1)
    kept = seen & (inside | boxes.crowd)
    return transforms.resize(inner, [size, size]), _changed(boxes, moved[kept] / size, kept)


def mirrored(image: Image.Image, boxes: Boxes) -> tuple[Image.Image, Boxes]:
    """The mirror image, left to right."""
    moved: Any = transforms.horizontal_flip(_pixels(boxes.boxes, 1, 1))
    everything = torch.ones(len(boxes), dtype=torch.bool)
    return transforms.horizontal_flip(image), _changed(boxes, moved.as_subclass(Tensor), everything)


def zoomed_out(window: Window, rng: np.random.Generator) -> Window:
    """Half of the time a window up to 4 times as wide and high, the given one somewhere in it."""
    if rng.random() < 0.5:
        return window
    scale, (right, down) = rng.uniform(1.0, _ZOOM), rng.random(2)
    return _resized(window, scale, right, down)


def scale_jittered(window: Window, rng: np.random.Generator) -> Window:
    """A window with 1 / scale of the sides, somewhere in the given one or around it."""
    scale, (right, down) = np.exp(rng.uniform(*np.log(_JITTER))), rng.random(2)
    return _resized(window, 1 / scale, right, down)


def iou_cropped(window: Window, boxes: np.ndarray, rng: np.random.Generator) -> Window:
    """A window in the given one that overlaps one of the boxes [m, 4] (pixels of the image) by a drawn IoU.

    At least the centre of one box is in it. As torchvision's RandomIoUCrop; images without boxes are left.
    """
    boxes = boxes - np.array([window.left, window.top] * 2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    while len(boxes):
        least = _OVERLAPS[rng.integers(len(_OVERLAPS))]
        if least >= 1:
            break
        for _ in range(_TRIALS):
            width, height = (int(side * rng.uniform(*_CROP_SIDE)) for side in window[2:])
            if min(width, height) < 1 or not _CROP_RATIO[0] <= width / height <= _CROP_RATIO[1]:
                continue
            left, top = (int(room * rng.random()) for room in (window.width - width, window.height - height))
            low, high = np.array([left, top]), np.array([left + width, top + height])
            inside = ((centres > low) & (centres < high)).all(1)
            if not inside.any():
                continue
            common = np.clip(np.minimum(boxes[:, 2:], high) - np.maximum(boxes[:, :2], low), 0, None).prod(1)
            if (common / (areas + width * height - common))[inside].max() >= least:
                return Window(window.left + left, window.top + top, width, height)
    return window


def recoloured(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The RGB image with other brightness, contrast, saturation, hue and channels, each half of the time.

    The ranges, and that contrast comes before the others or after them, are torchvision's
    RandomPhotometricDistort's.
    """
    brightness, contrast, saturation = (
        rng.uniform(*span) for span in ((0.875, 1.125), (0.5, 1.5), (0.5, 1.5))
    )
    hue, late, does = rng.uniform(-0.05, 0.05), rng.random() < 0.5, rng.random(5) < 0.5
    if does[0]:
        image = transforms.adjust_brightness(image, brightness)
    if does[1] and not late:
        image = transforms.adjust_contrast(image, contrast)
    if does[2]:
        image = transforms.adjust_saturation(image, saturation)
    if does[3]:
        image = transforms.adjust_hue(image, hue)
    if does[1] and late:
        image = transforms.adjust_contrast(image, contrast)
    if does[4]:
        image = transforms.permute_channels(image, rng.permutation(3).tolist())
    return image


def _resized(window: Window, scale: float, right: float, down: float) -> Window:
    """The window with `scale` times its sides; `right` and `down`, 0 to 1, say where."""
    width, height = max(round(window.width * scale), 1), max(round(window.height * scale), 1)
    left = window.left - round((width - window.width) * right)
    top = window.top - round((height - window.height) * down)
    return Window(left, top, width, height)


def _pixels(boxes: Tensor, width: int, height: int) -> Any:
    scaled = boxes * torch.tensor([width, height, width, height])
    return tv_tensors.BoundingBoxes(
        scaled,
        format=tv_tensors.BoundingBoxFormat.XYXY,
        canvas_size=(height, width),
    )


def _changed(boxes: Boxes, moved: Tensor, kept: Tensor) -> Boxes:
    """The boxes with other places; areas change as those of the boxes do."""
    before, after = ((b[:, 2:] - b[:, :2]).prod(1).clamp(min=1e-12) for b in (boxes.boxes[kept], moved))
    return replace(
        boxes,
        boxes=moved,
        labels=boxes.labels[kept],
        crowd=boxes.crowd[kept],
        areas=boxes.areas[kept] * after / before,
    )
