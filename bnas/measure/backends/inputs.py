"""Inputs for networks that are timed, and outputs of networks that take a fixed number of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def random_input(shape: Sequence[int]) -> Tensor:
    """Fixed random numbers of this shape: zeros would make some layers faster than they are."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0))


def in_batches(run: Callable[[Tensor], Tensor], images: Tensor, batch: int) -> Tensor:
    """Outputs [n, ...] for `images` [n, C, H, W] of a network `run` that takes exactly `batch` at a time.

    A last, smaller batch is filled up with copies of its last image.
    """
    outputs = []
    for chunk in torch.split(images.detach().float().cpu(), batch):
        missing = batch - len(chunk)
        filled = torch.cat([chunk, chunk[-1:].expand(missing, *chunk.shape[1:])]) if missing else chunk
        outputs.append(run(filled.contiguous())[: len(chunk)])
    return torch.cat(outputs)
