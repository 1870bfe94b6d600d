"""How good a network is on a split; a subnet is extracted and recalibrated first, its supernet untouched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bnas.data import Images, batches, epoch_order
from bnas.graph.trace import eval_mode
from bnas.space import resized, resolution_of
from bnas.train.norms import device_of, recalibrate
from bnas.train.precision import Precision, autocast
from bnas.train.sampling import Place, step_seed
from bnas.train.task import TASKS, Task

if TYPE_CHECKING:
    from bnas.space import SubnetConfig

_MOST_PIXELS = 256 * 299**2  # of a batch of images that batch norms are recalibrated on


def evaluate(
    predict: Callable[[Tensor], Any],
    images: Images,
    *,
    batch_size: int | None = None,
    task: str = "classification",
    resolution: int | None = None,
) -> float:
    """The task's metric, in percent top-1 for classification and mAP for detection, over all images, not augmented.

    `predict` maps a batch [n, C, H, W] to logits [n, classes], or to `bnas.detection.RawDetections`: an nn.Module,
    which runs in eval mode without gradients and is unchanged afterwards, or any function, as a runtime's, that
    returns tensors or arrays. `resolution` is the size in pixels that the images are given in; None: their own.
    `batch_size` None is the task's own.

    Raises:
        DataError: the split is empty, or has no boxes where boxes are to be found.
    """
    with _results(predict, images, batch_size, TASKS[task], resolution) as results:
        return TASKS[task].metric(results)


def evaluate_details(
    predict: Callable[[Tensor], Any],
    images: Images,
    *,
    batch_size: int | None = None,
    task: str = "classification",
    resolution: int | None = None,
) -> Mapping[str, float]:
    """What `evaluate` finds, by the metric's name, and what else the task tells: of detection AP50, AP75 and that of
    small, medium and large objects, as far as there are any."""
    with _results(predict, images, batch_size, TASKS[task], resolution) as results:
        details = TASKS[task].details
        return details(results) if details else {TASKS[task].metric_name: TASKS[task].metric(results)}


@contextmanager
def _results(
    predict: Callable[[Tensor], Any],
    images: Images,
    batch_size: int | None,
    task: Task,
    resolution: int | None,
) -> Iterator[Iterable[tuple[Any, Tensor]]]:
    """A context with the outputs and labels of all batches."""
    module = predict if isinstance(predict, nn.Module) else None
    device = device_of(module) if module else torch.device("cpu")

    def results() -> Iterable[tuple[Any, Tensor]]:
        for x, labels in batches(images, batch_size or task.evaluation_batch):
            outputs = predict(resized(x.to(device), resolution))
            ready = module is not None or isinstance(outputs, tuple)
            yield outputs if ready else torch.as_tensor(outputs), labels.to(device)

    with torch.no_grad(), eval_mode(module) if module else nullcontext():
        yield results()


def evaluate_subnet(
    extract: Callable[[SubnetConfig], nn.Module],
    config: SubnetConfig,
    recalibration_batches: Iterable[tuple[Tensor, Tensor]] | None,
    images: Images,
    *,
    batch_size: int | None = None,
    precision: Precision = "float32",
    task: str = "classification",
) -> float:
    """The task's metric of one subnet, in percent: extract a plain module, recalibrate it, evaluate it.

    Images have the config's resolution, where it has one. Without `recalibration_batches` (None) batch norms
    have the statistics that training left, a mixture of all subnets'.
    The supernet behind `extract` does not change.

    Raises:
        DataError: no images to recalibrate or to evaluate on.
    """
    subnet = extract(config).to(memory_format=torch.channels_last)
    with autocast(precision, device_of(subnet)):
        size = resolution_of(config)
        if recalibration_batches is not None:
            recalibrate(subnet, recalibration_batches, resolution=size)
        return evaluate(subnet, images, batch_size=batch_size, task=task, resolution=size)


def recalibration_batches(
    images: Images, count: int, *, seed: int, batch_size: int | None = None
) -> tuple[tuple[Tensor, Tensor], ...]:
    """`count` images (all, if there are fewer) drawn from the training split, not augmented, in memory.

    Made once and handed to every evaluation, so that subnets are compared on equal statistics. Takes
    4 C H W bytes per image. `batch_size` None is 256, of large images fewer.
    """
    batch_size = batch_size or max(1, min(256, _MOST_PIXELS // prod(images.shape[1:])))
    order = epoch_order(len(images), step_seed(seed, None, Place.RECALIBRATE), 0)[:count]
    return tuple(batches(images, batch_size, order=order))
