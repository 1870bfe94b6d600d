"""What a quantizer is given, checked before it starts: weights, and images to find ranges on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from bnas.errors import ConfigError, ExportError
from bnas.quantize.config import QuantizeConfig


def calibration_count(config: QuantizeConfig, available: int, split: str = "training") -> int:
    """How many of the `available` images of a split are calibrated on: `config.samples`, all if that is its default and
    more.

    Raises:
        ConfigError: more images are asked for than there are.
    """
    if config.samples <= available:
        return config.samples
    if config.samples == QuantizeConfig().samples:
        return available
    raise ConfigError(
        f"quantize.samples: {config.samples} images to calibrate on are asked for, the {split} set has {available}; "
        f"set quantize.samples={available} or less"
    )


def calibration_images(batches: Iterable[Tensor], count: int, example: Tensor) -> list[np.ndarray]:
    """The first `count` images of batches [n, C, H, W], each [1, C, H, W] in float32, as the network takes them.

    Raises:
        ExportError: there are none, or one has another shape than those of `example`, or holds NaN.
    """
    images = []
    for index, image in enumerate(islice(_single(batches), count)):
        if image.shape != example.shape[1:]:
            raise ExportError(
                f"quantize: calibration image {index} is {_size(image.shape)}, the network takes "
                f"{_size(example.shape[1:])}"
            )
        if not torch.isfinite(image).all():
            raise ExportError(f"quantize: calibration image {index} holds NaN or infinite numbers")
        images.append(image.unsqueeze(0).contiguous().numpy())
    if not images:
        raise ExportError("quantize: no calibration images were given")
    return images


def _single(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    for batch in batches:
        yield from batch.detach().float().cpu()


def _size(shape: Iterable[int]) -> str:
    return "×".join(str(size) for size in shape)
