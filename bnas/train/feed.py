"""The batches of a stage: in a fixed order, cut in shares of processes and in parts, laid out for the model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnas.data import Images, batches, epoch_order
from bnas.errors import ConfigError
from bnas.train.config import LoopConfig
from bnas.train.norms import device_of
from bnas.train.sampling import Place, step_seed
from bnas.train.stages import Stage, steps_per_epoch


def training_batches(
    images: Images,
    stage: Stage,
    config: LoopConfig,
    seed: int,
    start: int,
    stop: int,
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(step, images, labels) of a stage's steps from `start` on, each the same whatever `start` is.

    `share` (rank, size): of each batch the rank's share only.
    """
    per_epoch = steps_per_epoch(len(images), config.batch_size)
    order_seed = step_seed(seed, stage, Place.ORDER)
    while start < stop:
        epoch, first = divmod(start, per_epoch)
        before = epoch * per_epoch
        size = min(stop - before, per_epoch) * config.batch_size
        order = epoch_order(len(images), order_seed, epoch)[:size]
        augment = partial(_augment_seed, seed, stage, before) if config.augment else None
        found = batches(images, config.batch_size, order=order, augment=augment, start=first, share=share)
        for x, labels in found:
            yield start, x, labels
            start += 1


def _augment_seed(seed: int, stage: Stage, before: int, number: int) -> int:
    return step_seed(seed, stage, Place.AUGMENT, before + number)


def to_device(images: Tensor, labels: Tensor, model: nn.Module, config: LoopConfig) -> tuple[Tensor, Tensor]:
    """A batch where the model lies, images laid out as the model's weights are."""
    device = device_of(model)
    images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
    if images.dim() == 4 and config.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    return images, labels


def cut(images: Tensor, labels: Tensor, parts: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batch in `parts` parts of about equal size, in order."""
    yield from zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True)


def check_parts(model: nn.Module, smallest: int, *, synchronized: bool) -> None:
    """Check that batch norms see more than one image at a time; `smallest` images are in the smallest part.

    Raises:
        ConfigError: they do not, and would fail or learn nothing.
    """
    if smallest < 1:
        raise ConfigError("accumulate: a step has more parts than images; lower it, or raise batch_size")
    norms = any(isinstance(module, _BatchNorm) for module in model.modules())
    if smallest == 1 and norms and not synchronized:
        raise ConfigError(
            "batch_size: a part of the batch has one image, of which batch norm computes no variance; raise "
            "batch_size, or lower accumulate or the number of processes"
        )
