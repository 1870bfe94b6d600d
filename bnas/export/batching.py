"""What a network takes, and images brought into that form, as many at a time as it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnas.errors import ExportError


@dataclass(frozen=True, kw_only=True)
class Takes:
    """The input of a network: `shape` as [n, C, H, W], None where any number will do, or where nothing is known.

    `channels_last`: it is stored as [n, H, W, C]. `u8`: it is bytes.
    """

    shape: tuple[int | None, ...] | None = None
    channels_last: bool = False
    u8: bool = False

    @property
    def batch(self) -> int | None:
        """How many images it takes at once; None: any number."""
        return self.shape[0] if self.shape else None

    def of(self, images: Tensor, where: str) -> Tensor:
        """`images` [n, C, H, W] as the network takes them; `where` is the network's name in errors.

        Raises:
            ExportError: they are of another shape, or the network takes bytes and they are none.
        """
        expected = self.shape[1:] if self.shape else (None,) * (images.ndim - 1)
        fits = len(expected) == images.ndim - 1 and all(
            size is None or size == got for size, got in zip(expected, images.shape[1:], strict=True)
        )
        if not fits:
            sizes = ", ".join("any" if size is None else str(size) for size in expected)
            raise ExportError(f"{where} takes images of shape [n, {sizes}], got {list(images.shape)}")
        images = images.detach().cpu()
        if self.u8:
            stored = images.to(torch.uint8)
            if images.dtype != torch.uint8 and not torch.equal(stored.to(images.dtype), images):
                raise ExportError(
                    f"{where} takes whole pixel values from 0 to 255, because its pre-processing is built in; "
                    f"got values from {float(images.min()):g} to {float(images.max()):g}"
                )
            images = stored
        else:
            images = images.float()
        return images.permute(0, 2, 3, 1) if self.channels_last else images


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a file is to be run; as the arguments of `bnas.export.load`."""

    batch: int | None = None
    compiled: bool = False
    trusted: bool = False


def in_batches(run: Callable[[Tensor], Tensor], images: Tensor, batch: int | None) -> Tensor:
    """Outputs [n, ...] for `images` [n, ...] of a network `run` that takes exactly `batch` at a time; None: any number.

    A last, smaller batch is filled up with copies of its last image.
    """
    return all_in_batches(lambda chunk: (run(chunk),), images, batch)[0]


def all_in_batches(
    run: Callable[[Tensor], tuple[Tensor, ...]], images: Tensor, batch: int | None
) -> tuple[Tensor, ...]:
    """As `in_batches`, of a network that has several outputs [n, ...]."""
    found = []
    for chunk in torch.split(images, batch or max(len(images), 1)):
        missing = 0 if batch is None else batch - len(chunk)
        if not missing:
            found.append(run(chunk.contiguous()))
            continue
        filled = torch.cat([chunk, chunk[-1:].expand(missing, *chunk.shape[1:])])
        found.append(tuple(output[: len(chunk)] for output in run(filled)))
    return tuple(map(torch.cat, zip(*found, strict=True)))


def tensors_in(outputs: Any) -> tuple[Tensor, ...]:
    """All tensors of what a network gives, which may be in lists and mappings, as float32."""
    match outputs:
        case Tensor():
            return (outputs.float(),)
        case np.ndarray() if outputs.dtype.kind in "fiub":
            return (torch.from_numpy(outputs).float(),)
        case Mapping():
            return tensors_in(tuple(outputs.values()))
        case list() | tuple():
            return tuple(tensor for own in outputs for tensor in tensors_in(own))
    return ()
