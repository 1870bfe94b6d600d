"""Batch-norm statistics of a subnet: computed afresh, for the supernet's are a mixture of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from bnas.errors import DataError
from bnas.graph.trace import eval_mode
from bnas.space import resized


def recalibrate(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, resolution: int | None = None
) -> None:
    """Set the running mean and variance of each batch norm to their averages over the batches.

    Yu & Huang 2019, "Universally slimmable networks and improved training techniques", section 3.2: the
    plain average over batches of each batch's mean and unbiased variance. Only batch-norm layers with
    running statistics run in training mode; nothing else of the model changes, its training flags and
    momenta included. A model without such layers is left as it is. `resolution` is the size in pixels that
    the images are given in; None: their own.

    Raises:
        DataError: there is no batch; the model is unchanged.
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]
    if not norms:
        return
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        raise DataError("batch-norm recalibration: no images given; at least one batch is needed")
    device = device_of(model)
    momenta = [norm.momentum for norm in norms]
    with eval_mode(model), torch.no_grad():
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # torch's word for the cumulative average
                norm.train()
            for images, _ in chain((first,), rest):
                model(resized(images.to(device), resolution))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


@contextmanager
def still_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, forward passes in training mode change no batch norm's buffers: they are put back, bit by bit."""
    norms = [module for module in model.modules() if isinstance(module, _NormBase)]
    before = [
        (norm, name, buffer, buffer.clone())
        for norm in norms
        for name, buffer in norm._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        for norm, name, buffer, own in before:
            buffer.data.copy_(own)  # past autograd, which may hold the buffer for a backward pass to come
            norm._buffers[name] = buffer


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter lies; the CPU if it has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
