"""RandAugment: a few operations drawn by chance for each image, all of one strength.

Cubuk et al. 2020, "RandAugment: Practical automated data augmentation with a reduced search space", with the
operations and strengths of torchvision.transforms.v2.RandAugment. Its own class draws from torch's global
generator, which threads would share; here what is drawn comes in as numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import atan, degrees
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

BINS = 31  # magnitudes are 0 … 30
_TRANSLATION = 150 / 331  # of the image's side


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`apply(image, strength)`, where the strength goes from `weakest` to `strongest` as the magnitude does.

    With `of_side` the strength is in that side's lengths; a `signed` one is negated for half of the images;
    None: the operation has no strength.
    """

    apply: Callable[[Any, float], Any]
    weakest: float = 0.0
    strongest: float | None = None
    signed: bool = False
    of_side: str = ""


def _shear(image: Any, x: float, y: float) -> Any:
    """Move the far end of the rows by x, or of the columns by y, in lengths of the image."""
    angles = [degrees(atan(x)), degrees(atan(y))]
    return F.affine(image, angle=0.0, translate=[0, 0], scale=1.0, shear=angles, center=[0, 0])


def _translate(image: Any, x: float, y: float) -> Any:
    return F.affine(image, angle=0.0, translate=[int(x), int(y)], scale=1.0, shear=[0.0, 0.0])


def _signed(apply: Callable[[Any, float], Any], strongest: float, of_side: str = "") -> Operation:
    return Operation(apply=apply, strongest=strongest, signed=True, of_side=of_side)


OPERATIONS: dict[str, Operation] = {
    "Identity": Operation(apply=lambda image, _: image),
    "ShearX": _signed(lambda image, by: _shear(image, by, 0), 0.3),
    "ShearY": _signed(lambda image, by: _shear(image, 0, by), 0.3),
    "TranslateX": _signed(lambda image, by: _translate(image, by, 0), _TRANSLATION, "width"),
    "TranslateY": _signed(lambda image, by: _translate(image, 0, by), _TRANSLATION, "height"),
    "Rotate": _signed(lambda image, by: F.rotate(image, angle=by), 30.0),
    "Brightness": _signed(lambda image, by: F.adjust_brightness(image, 1 + by), 0.9),
    "Color": _signed(lambda image, by: F.adjust_saturation(image, 1 + by), 0.9),
    "Contrast": _signed(lambda image, by: F.adjust_contrast(image, 1 + by), 0.9),
    "Sharpness": _signed(lambda image, by: F.adjust_sharpness(image, 1 + by), 0.9),
    "Posterize": Operation(apply=lambda image, by: F.posterize(image, round(by)), weakest=8, strongest=4),
    "Solarize": Operation(apply=lambda image, by: F.solarize(image, 255 * by), weakest=1, strongest=0),
    "AutoContrast": Operation(apply=lambda image, _: F.autocontrast(image)),
    "Equalize": Operation(apply=lambda image, _: F.equalize(image)),
}
_NAMES = tuple(OPERATIONS)


def rand_augment(image: Image.Image, draws: np.ndarray, magnitude: int) -> Image.Image:
    """The image after len(draws) operations.

    `draws` [operations, 2] are uniform in [0, 1): which operation, and its sign. `magnitude` is 0 to 30.
    """
    for which, sign in draws:
        image = _apply(
            image, _NAMES[int(which * len(_NAMES))], sign < 0.5, magnitude, image.height, image.width
        )
    return image


def rand_augment_batch(images: Tensor, draws: np.ndarray, magnitude: int) -> Tensor:
    """Each of the uint8 images [n, C, H, W] after its own operations, `draws` [n, operations, 2] as above.

    Images that get the same operation are changed together.
    """
    images = images.clone()
    height, width = images.shape[2:]
    for which, sign in np.moveaxis(draws, 0, 2):
        codes = 2 * (which * len(_NAMES)).astype(int) + (sign < 0.5)
        for code in np.unique(codes):
            members = torch.from_numpy(np.flatnonzero(codes == code))
            some = images.index_select(0, members)
            some = _apply(some, _NAMES[code // 2], bool(code % 2), magnitude, height, width)
            images.index_copy_(0, members, some)
    return images


def _apply(image: Any, name: str, negative: bool, magnitude: int, height: int, width: int) -> Any:
    operation = OPERATIONS[name]
    side = {"": 1, "height": height, "width": width}[operation.of_side]
    strength = _strength(name, magnitude, side)
    return operation.apply(image, -strength if negative and operation.signed else strength)


@cache
def _strength(name: str, magnitude: int, side: int) -> float:
    """Strength of a magnitude, rounded to float32 as torchvision's are."""
    operation = OPERATIONS[name]
    if operation.strongest is None:
        return 0.0
    return float(torch.linspace(operation.weakest, operation.strongest * side, BINS)[magnitude])
