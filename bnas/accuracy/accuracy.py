"""How many images a network has right: top-k of any function from images to scores, batch by batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from bnas import progress
from bnas.accuracy.annotations import Samples
from bnas.accuracy.intervals import wilson
from bnas.accuracy.steps import Pixels
from bnas.errors import ConfigError, DataError, ModelError

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class TopK:
    """A metric: the right class is among the `k` with the largest scores. `reference`: the share published for it."""

    k: int = 1
    name: str = ""
    reference: float | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"k: expected at least 1, got {self.k}")

    @property
    def title(self) -> str:
        return self.name or f"top-{self.k}"


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a metric came to: `correct` of the images, in percent, with the Wilson interval of 95 %."""

    name: str
    k: int
    correct: int
    percent: float
    low_percent: float
    high_percent: float
    reference_percent: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a network said to every image.

    `ranks` int64 [n]: how many classes it scored above the right one. `seconds` in all, `network_seconds` of them spent
    in the network, the rest waiting for images to be read.
    """

    ranks: Tensor
    classes: int
    seconds: float
    network_seconds: float

    def score(self, metric: TopK) -> Score:
        """Raises ConfigError where there are not as many classes as the metric takes."""
        if metric.k > self.classes:
            raise ConfigError(f"top_k: {metric.k}, but the network has {self.classes} classes")
        correct, images = int((self.ranks < metric.k).sum()), len(self.ranks)
        low, high = wilson(correct, images)
        return Score(
            name=metric.title,
            k=metric.k,
            correct=correct,
            percent=100 * correct / images,
            low_percent=low,
            high_percent=high,
            reference_percent=None if metric.reference is None else 100 * metric.reference,
        )


def ask(
    predict: Callable[[Tensor], Tensor],
    batches: Iterable[Batch],
    *,
    images: int,
    name_of: Callable[[int], str] = "image {}".format,
    title: str = "check",
) -> Answers:
    """What `predict`, from images [n, C, H, W] to scores [n, classes], says to the `images` images of all batches.

    `batches` are pairs of images and int64 labels [n]; `name_of` is what an error calls image i. Equal scores count in
    the order of the classes, as argmax has it.

    Raises:
        DataError: there is no image, or a label is no class of the network.
        ModelError: what the network gives are no scores of classes, or not numbers.
    """
    ranks: list[Tensor] = []
    done, right, classes, network_seconds, began = 0, 0, 0, 0.0, perf_counter()
    with progress.bar(title, total=images) as step:
        for x, labels in batches:
            since = perf_counter()
            scores = torch.as_tensor(predict(x)).detach().float().cpu()
            network_seconds += perf_counter() - since
            scores = _checked(scores, len(x), done, name_of)
            classes = scores.shape[1]
            _check_labels(labels, classes, done, name_of)
            ranks.append(_ranks(scores, labels))
            done, right = done + len(x), right + int((ranks[-1] == 0).sum())
            step(len(x), note=f"top-1 {100 * right / done:.2f} %")
    if not done:
        raise DataError("there is no image to check the network on")
    return Answers(
        ranks=torch.cat(ranks),
        classes=classes,
        seconds=perf_counter() - began,
        network_seconds=network_seconds,
    )


def read_batches(
    samples: Samples, prepare: Callable[[Path], Pixels], batch: int, *, threads: int | None = None
) -> Iterator[Batch]:
    """The samples as batches: float32 [n, 3, H, W] of what `prepare` makes of each file [H, W, 3], and labels.

    `threads` (None: one for each processor) read the next batch while this one is used.

    Raises:
        DataError: a file is no image, or not of the others' size when prepared; names it.
    """
    starts = range(0, len(samples), batch)
    shape: tuple[int, ...] | None = None
    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0)), thread_name_prefix="decode") as pool:

        def begin(start: int) -> list[Future[Pixels]]:
            return [pool.submit(_planes, prepare, path) for path in samples.paths[start : start + batch]]

        try:
            ahead = begin(0)
            for start in starts:
                now, ahead = ahead, begin(start + batch)
                planes = [future.result() for future in now]
                shape = shape or planes[0].shape
                for index, own in enumerate(planes, start=start):
                    if own.shape != shape:
                        raise DataError(
                            f"{samples.paths[index]}: {_size(own.shape)} pixels when prepared, {samples.paths[0]} "
                            f"{_size(shape)}; the preprocessing must end in one size: add a crop"
                        )
                yield torch.from_numpy(np.stack(planes)), torch.tensor(samples.labels[start : start + batch])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _planes(prepare: Callable[[Path], Pixels], path: Path) -> Pixels:
    return np.ascontiguousarray(prepare(path).transpose(2, 0, 1), dtype=np.float32)


def _ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the right one when scores [n, classes] are sorted, largest first."""
    own = scores.gather(1, labels[:, None])
    before = torch.arange(scores.shape[1]) < labels[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(1)


def _checked(scores: Tensor, images: int, first: int, name_of: Callable[[int], str]) -> Tensor:
    """The scores as [n, classes]."""
    if scores.dim() == 0 or len(scores) != images or scores.numel() == images:
        raise ModelError(
            f"the network gives an output of shape {list(scores.shape)} for {images} images; expected "
            f"scores [{images}, classes], one for each class, as a classifier's last layer gives them"
        )
    scores = scores.flatten(1)
    bad = ~scores.isfinite().all(1)
    if bad.any():
        raise ModelError(
            f"the network gives scores that are no numbers for {name_of(first + int(bad.nonzero()[0]))}; "
            "it, or what it is given, is damaged"
        )
    return scores


def _check_labels(labels: Tensor, classes: int, first: int, name_of: Callable[[int], str]) -> None:
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        place = int(wrong.nonzero()[0])
        label = int(labels[place])
        hint = "; leave has_background out?" if label == classes else ""
        raise DataError(
            f"{name_of(first + place)} is of class {label}, but the network has {classes} classes, 0 to "
            f"{classes - 1}{hint}"
        )


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]} x {shape[1]}"
