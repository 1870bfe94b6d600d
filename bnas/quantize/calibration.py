"""What a quantizer is given, checked before it starts: weights, and images to find ranges on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from math import prod

import numpy as np
import torch
from torch import Tensor

from bnas.errors import ConfigError, ExportError
from bnas.quantize.config import QuantizeConfig

# Bytes of images that are kept in memory; more (3840 of 800×800 pixels are 29.5 GB) lie in a file meanwhile.
MOST_IN_MEMORY = 2**31


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

    Many large ones lie in a temporary file, of which the system keeps in memory what there is room for.

    Raises:
        ExportError: there are none, or one has another shape than those of `example`, or holds NaN.
    """
    images: list[np.ndarray] = []
    room = _room(count, tuple(example.shape[1:]))
    for index, image in enumerate(islice(_single(batches), count)):
        if image.shape != example.shape[1:]:
            raise ExportError(
                f"quantize: calibration image {index} is {_size(image.shape)}, the network takes "
                f"{_size(example.shape[1:])}"
            )
        if not torch.isfinite(image).all():
            raise ExportError(f"quantize: calibration image {index} holds NaN or infinite numbers")
        own = image.unsqueeze(0).contiguous().numpy()
        if room is not None:
            room[index] = own[0]
            own = room[index : index + 1]
        images.append(own)
    if not images:
        raise ExportError("quantize: no calibration images were given")
    return images


def _room(count: int, shape: tuple[int, ...]) -> np.ndarray | None:
    """Where `count` images of this shape are put, on disk; None: memory has room for them."""
    if 4 * count * prod(shape) <= MOST_IN_MEMORY:
        return None
    with tempfile.TemporaryFile() as file:  # the mapping keeps it, and with the mapping it is gone
        return np.memmap(file, dtype=np.float32, mode="w+", shape=(count, *shape))


def _single(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    for batch in batches:
        yield from batch.detach().float().cpu()


def _size(shape: Iterable[int]) -> str:
    return "×".join(str(size) for size in shape)
