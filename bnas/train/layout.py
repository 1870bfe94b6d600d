"""How a network's weights lie in memory, and where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn

from bnas.train.norms import device_of


@torch.no_grad()
def set_memory_format(model: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay out all 4-d parameters and buffers anew, in place.

    Also where torch sees nothing to do: which convolution kernel runs may follow from the strides of axes of
    size one, and a resumed training must run the same kernels.
    """
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.dim() == 4:
            tensor.data = torch.empty_like(tensor, memory_format=memory_format).copy_(tensor)


@contextmanager
def in_training(model: nn.Module, device: torch.device, *, channels_last: bool) -> Iterator[None]:
    """The model in training mode on `device`; afterwards in eval mode, where it was, laid out plainly."""
    home = device_of(model)
    model.to(device).train()
    try:
        yield
    finally:
        model.to(home).eval()
        if channels_last:
            set_memory_format(model, torch.contiguous_format)  # what savers and exporters expect
