"""What a data set is to the rest of bnas: three splits of images, read batch by batch in a fixed order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from torch import Tensor

from bnas.errors import ConfigError, DataError

Batch = tuple[Tensor, Tensor]

_PREFETCH = 2  # batches made ahead: one ready, one in the making
_ORDER, _SPLIT = 101, 102  # the places in a run where this file draws random numbers


class Images(Protocol):
    """One split: labelled images of one shape, in memory or in files."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is an index into them."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int], *, augment: int | None = None) -> Batch:
        """Normalised float32 images [n, C, H, W] and int64 labels [n].

        `augment` seeds this batch's random augmentation (None: no augmentation); the same seed and
        indices give the same images.
        """


@dataclass(frozen=True, kw_only=True)
class ImageSplits:
    """`train` to learn from, `val` for every decision of the search, `test` for the report alone."""

    name: str
    train: Images
    val: Images
    test: Images


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, how large, and how many of them.

    `val_images` are drawn off the training images, stratified by class and fixed by `split_seed`.
    `train_images` and `test_images` keep a stratified part of what is left (None: all). `max_shift` (pixels)
    and `flip` are the augmentation of the in-memory sets. `batch_workers` is the number of threads that
    decode image files (0: one per core).
    """

    name: str = "embedded"
    root: str | None = None
    size: int = 32
    channels: int = 1
    val_images: int = 2000
    train_images: int | None = None
    test_images: int | None = None
    split_seed: int = 0
    flip: bool = True
    max_shift: int = 2
    batch_workers: int = 0

    def __post_init__(self) -> None:
        least = {"size": 8, "val_images": 1, "train_images": 1, "test_images": 1}
        for field in fields(self):
            value, minimum = getattr(self, field.name), least.get(field.name, 0)
            if isinstance(value, int) and value < minimum:
                raise ConfigError(f"{field.name}: must be at least {minimum}, got {value}")
        if self.channels not in (1, 3):
            raise ConfigError(f"channels: must be 1 (grey) or 3 (colour), got {self.channels}")
        if self.max_shift >= self.size:
            raise ConfigError(f"max_shift: must be below size={self.size}, got {self.max_shift}")


def stratified(labels: Sequence[int] | np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Ascending indices of `count` images whose classes have the shares they have in `labels`.

    Shares that are no whole numbers are settled by the largest remainders.
    """
    names, members = np.unique(np.asarray(labels), return_counts=True)
    exact = members * count / max(members.sum(), 1)
    quota = np.floor(exact).astype(int)
    quota[np.argsort(quota - exact, kind="stable")[: count - quota.sum()]] += 1
    picked = [
        rng.permutation(np.flatnonzero(np.asarray(labels) == name))[:n]
        for name, n in zip(names, quota, strict=True)
    ]
    chosen: np.ndarray = np.sort(np.concatenate([np.empty(0, int), *picked]))
    return chosen


def split_indices(
    train_labels: np.ndarray, test_labels: np.ndarray, config: DataConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the train and val images among the training images, and of the test images.

    Raises:
        DataError: more images are asked for than there are.
    """

    def draw(option: str, among: np.ndarray, labels: np.ndarray, most: int, place: int) -> np.ndarray:
        count = getattr(config, option)
        if count is None:
            return among
        if count > most:
            raise DataError(f"data.{option}: at most {most} in data.name={config.name}, got {count}")
        rng = np.random.default_rng([config.split_seed, _SPLIT, place])
        drawn: np.ndarray = among[stratified(labels[among], count, rng)]
        return drawn

    everything = np.arange(len(train_labels))
    val = draw("val_images", everything, train_labels, len(everything) - 1, 0)
    rest = np.setdiff1d(everything, val)
    train = draw("train_images", rest, train_labels, len(rest), 1)
    test = draw("test_images", np.arange(len(test_labels)), test_labels, len(test_labels), 2)
    return train, val, test


def epoch_order(n: int, seed: int, epoch: int) -> list[int]:
    """The order in which `epoch` visits `n` images: a permutation fixed by (seed, epoch)."""
    order: list[int] = np.random.default_rng([seed, _ORDER, epoch]).permutation(n).tolist()
    return order


def batches(
    images: Images,
    batch_size: int,
    *,
    order: Sequence[int] | None = None,
    augment: Callable[[int], int] | None = None,
    start: int = 0,
) -> Iterator[Batch]:
    """Batches of `images` in `order` (None: as stored); the last one may be smaller.

    The next ones are prepared in a background thread; what it raises is raised here. `augment` gives the
    augmentation seed of a batch by its number. The first `start` batches are passed over without being
    decoded, and keep their numbers: resuming gives the very batches that would have come.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size: must be at least 1, got {batch_size}")
    wanted = range(len(images)) if order is None else order
    numbers = range(start, -(-len(wanted) // batch_size))

    def make(number: int) -> Batch:
        indices = wanted[number * batch_size : (number + 1) * batch_size]
        return images.batch(indices, augment=None if augment is None else augment(number))

    return _prefetched(make, numbers)


def _prefetched(make: Callable[[int], Batch], numbers: Sequence[int]) -> Iterator[Batch]:
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    ahead: deque[Future[Batch]] = deque()
    try:
        for number in numbers:
            ahead.append(pool.submit(make, number))
            if len(ahead) > _PREFETCH:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
