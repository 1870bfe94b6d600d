"""What a data set is to the rest of bnas: three splits of images, read batch by batch in a fixed order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bnas.data.augment import BINS
from bnas.data.box_transforms import check_steps
from bnas.data.checks import check_labels
from bnas.errors import ConfigError, DataError

Batch = tuple[Tensor, Tensor]

_PREFETCH = 2  # batches made ahead: one ready, one in the making
_LATER = {"plain": "unless default"}  # of options that came after runs had been written without them
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

    def batch(self, indices: Sequence[int], *, augment: int | None = None, first: int = 0) -> Batch:
        """Normalised float32 images [n, C, H, W] and int64 labels [n].

        `augment` seeds this batch's random augmentation (None: no augmentation). `first` is the place of
        indices[0] in the whole batch, of which this may be one process's share: image i is augmented as
        (augment, first + i) says, so that the shares of a batch are the batch cut in shares. It is given
        only when it is not 0.
        """


@dataclass(frozen=True, kw_only=True)
class ImageSplits:
    """`train` to learn from, `val` for every decision of the search, `test` for the report alone.

    `calibration`, where there is a list of such images, are those that set the ranges of quantizers.
    """

    name: str
    train: Images
    val: Images
    test: Images
    calibration: Images | None = None


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, how large, and how many of them.

    `val_images` are drawn off the training images, stratified by class and fixed by `split_seed`.
    `train_images` and `test_images` keep a stratified part of what is left (None: all). `max_shift` (pixels)
    and `flip` are the augmentation of the in-memory sets; image files get random crops and mirror images.
    `rand_augment` adds so many operations of RandAugment per image (Cubuk et al. 2020), with
    `rand_augment_magnitude` from 0 to 30. `batch_workers` is the number of threads that decode image files
    (0: one per core). `cache` is a folder where image files are kept decoded, 3.9 size² bytes each, so that
    they are decoded once: for small images.

    Of images with boxes: `train_annotations` and `test_annotations` are files, `train_folder` and
    `test_folder` the folders of their images, where they do not lie in `root` as the data set has them;
    `test_names` are held out as the test split where no list says which; `calibration` is a list of image
    files, one a line, or a folder of them. `box_augment` names what is done to training images beside `flip`
    (see `BoxTransforms`). `one_class` makes every box one of this class. With `tile`, images are parts of
    this many pixels a side, which for training begin every `tile_step` pixels (None: half a tile).
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
    rand_augment: int = field(default=0, metadata=_LATER)
    rand_augment_magnitude: int = field(default=9, metadata=_LATER)
    cache: str | None = field(default=None, metadata=_LATER)
    train_annotations: str | None = field(default=None, metadata=_LATER)
    train_folder: str | None = field(default=None, metadata=_LATER)
    test_annotations: str | None = field(default=None, metadata=_LATER)
    test_folder: str | None = field(default=None, metadata=_LATER)
    test_names: tuple[str, ...] = field(default=(), metadata=_LATER)
    calibration: str | None = field(default=None, metadata=_LATER)
    box_augment: tuple[str, ...] = field(default=(), metadata=_LATER)
    one_class: str | None = field(default=None, metadata=_LATER)
    tile: int | None = field(default=None, metadata=_LATER)
    tile_step: int | None = field(default=None, metadata=_LATER)

    def __post_init__(self) -> None:
        least = {"size": 8, "val_images": 1, "train_images": 1, "test_images": 1, "tile": 8, "tile_step": 1}
        for option in fields(self):
            value, minimum = getattr(self, option.name), least.get(option.name, 0)
            if isinstance(value, int) and value < minimum:
                raise ConfigError(f"{option.name}: must be at least {minimum}, got {value}")
        if self.channels not in (1, 3):
            raise ConfigError(f"channels: must be 1 (grey) or 3 (colour), got {self.channels}")
        if self.max_shift >= self.size:
            raise ConfigError(f"max_shift: must be below size={self.size}, got {self.max_shift}")
        if self.rand_augment_magnitude >= BINS:
            raise ConfigError(
                f"rand_augment_magnitude: must be at most {BINS - 1}, got {self.rand_augment_magnitude}"
            )
        check_steps(self.box_augment)


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


def drawn(
    n: int, count: int | None, option: str, config: DataConfig, *, place: int, spared: int = 0
) -> np.ndarray:
    """Ascending indices of `count` (None: all) of `n` images, of which `spared` must be left.

    Raises:
        DataError: more are asked for than there are.
    """
    if count is None:
        return np.arange(n)
    if count > n - spared:
        raise DataError(f"data.{option}: at most {n - spared} in data.name={config.name}, got {count}")
    rng = np.random.default_rng([config.split_seed, _SPLIT, place])
    return np.sort(rng.permutation(n)[:count])


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
    share: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Batches of `images` in `order` (None: as stored); the last one may be smaller.

    The next ones are prepared in a background thread; what it raises is raised here. `augment` gives the
    augmentation seed of a batch by its number. The first `start` batches are passed over without being
    decoded, and keep their numbers: resuming gives the very batches that would have come. With `share`
    (rank, size), each batch is cut in `size` equal shares, and this is the rank's; the last images of a batch
    that do not fill equal shares are left out.

    Raises:
        ConfigError: no such batch size or share.
        DataError: a batch has fewer images than there are shares, a label is no class, or an image is damaged.
    """
    rank, size = share
    if batch_size < 1:
        raise ConfigError(f"batch_size: must be at least 1, got {batch_size}")
    if not 0 <= rank < size:
        raise ConfigError(f"share: rank must be from 0 to {size - 1}, got {rank}")
    wanted = range(len(images)) if order is None else order
    numbers = range(start, -(-len(wanted) // batch_size))
    smallest = len(wanted) % batch_size or batch_size
    if numbers and smallest < size:
        raise DataError(
            f"a batch of {smallest} images cannot be shared by {size} processes: use fewer processes, or more "
            "images"
        )

    def make(number: int) -> Batch:
        whole = wanted[number * batch_size : (number + 1) * batch_size]
        each = len(whole) // size
        first = rank * each
        indices = whole[first : first + each]
        seed = None if augment is None else augment(number)
        place = {"first": first} if first else {}  # data sets of one process need not know of it
        made = images.batch(indices, augment=seed, **place)
        check_labels(made[1], images.classes, indices)
        return made

    return _prefetched(make, numbers)


def _prefetched(make: Callable[[int], Batch], numbers: Sequence[int]) -> Iterator[Batch]:
    pool = _one_thread()
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


def _one_thread() -> ThreadPoolExecutor:
    """One thread whose torch operations stay in it, as those of torch's own DataLoader do.

    A second team of threads beside the one that trains would slow both.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    threads = torch.get_num_threads()
    pool.submit(_stay_in_this_thread).result()
    torch.set_num_threads(threads)  # of threads yet to come, which the line above has set as well
    return pool


def _stay_in_this_thread() -> None:
    torch.get_num_threads()  # the first call in a thread sets it up, and would undo what follows
    torch.set_num_threads(1)
