"""Whole loops of training, data loading included, and data loading alone, in images per second."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, repeat
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.training_steps import (
    LEARNING_RATE,
    MOMENTUM,
    WEIGHT_DECAY,
    Case,
    bnas_step,
    elastic_resnet50,
    plain_step,
    resnet50,
    seconds,
)
from bnas.data import DataConfig, ImageSplits, batches, epoch_order, load_data
from bnas.train import PretrainConfig, pretrain

WORKERS = 8  # processes of torch's DataLoader at most


def images_of(size: int) -> ImageSplits:
    """The embedded images, in colour, with a few to validate on, which is not what is timed."""
    return load_data(DataConfig(name="embedded", size=size, channels=3, val_images=16, test_images=16))


class _OneByOne(Dataset[tuple[Tensor, int]]):
    """The same images as torchvision's references load theirs: one by one, with transforms.v2."""

    def __init__(self, size: int) -> None:
        images: Any = images_of(size).train  # grey, in memory
        self.pixels, self.labels = images.pixels, images.labels
        self.transform = v2.Compose(
            [
                v2.Pad(2) if size == 32 else v2.Resize((size, size), antialias=True),
                v2.RandomCrop(size, padding=2),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([images.mean], [images.std]),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        grey: Tensor = self.transform(self.pixels[index][None])
        return grey.expand(3, -1, -1), int(self.labels[index])


class Training:
    """Three trainings of the same network, each a function of the number of steps; data loading is included.

    bnas: `bnas.train.pretrain` on the in-memory images. torchvision: a plain loop on torch's DataLoader with
    worker processes, as torchvision's references/classification train. ready: the plain loop on one batch
    that lies on the device, that is, without data loading.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.data, self.model = case, images_of(case.size), resnet50()
        self._one_by_one, self._cuda = _OneByOne(case.size), torch.device(case.device).type == "cuda"
        self._plain, self._feed = resnet50(), self._loaded()
        self._loading = plain_step(self._plain, case, feed=lambda: next(self._feed))
        self._ready = plain_step(self._plain, case)

    def bnas(self, steps: int) -> None:
        config = PretrainConfig(
            epochs=steps / (len(self.data.train) // self.case.batch),
            batch_size=self.case.batch,
            lr=LEARNING_RATE,
            warmup_epochs=0.0,
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
            precision=self.case.precision,
            device=self.case.device,
        )
        pretrain(self.model, self.data, config, seed=0)

    def torchvision(self, steps: int) -> None:
        self._run(self._loading, steps)

    def ready(self, steps: int) -> None:
        self._run(self._ready, steps)

    def _run(self, step: Callable[[], float], steps: int) -> None:
        before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True  # as the references do
        try:
            for _ in range(steps):
                step()
            if self._cuda:
                torch.cuda.synchronize()
        finally:
            torch.backends.cudnn.benchmark = before

    def _loaded(self) -> Iterator[tuple[Tensor, Tensor]]:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        loader: DataLoader[Any] = DataLoader(
            self._one_by_one,
            self.case.batch,
            shuffle=True,
            drop_last=True,
            num_workers=min(WORKERS, max(1, cores - 1)),
            persistent_workers=True,
            pin_memory=self._cuda,
        )
        for images, labels in chain.from_iterable(repeat(loader)):
            images, labels = (tensor.to(self.case.device, non_blocking=True) for tensor in (images, labels))
            yield images.contiguous(memory_format=torch.channels_last), labels


def whole(case: Case, *, rounds: int, steps: int, warm: int) -> dict[str, list[float]]:
    """Images per second of each of `Training`'s loops in each round, in which they take turns.

    Of bnas's the time of `warm` steps is taken off that of `warm + steps`: what a training does once is not
    part of it.
    """
    training = Training(case)
    for run in (training.bnas, training.torchvision, training.ready):
        run(warm)
    speeds: dict[str, list[float]] = {"bnas": [], "torchvision": [], "ready": []}
    for _ in range(rounds):
        once = seconds(partial(training.bnas, warm))
        spent = {
            "bnas": seconds(partial(training.bnas, warm + steps)) - once,
            "torchvision": seconds(partial(training.torchvision, steps)),
            "ready": seconds(partial(training.ready, steps)),
        }
        for name, time in spent.items():
            speeds[name].append(steps * case.batch / time)
    return speeds


def loading(case: Case, *, rounds: int, count: int) -> dict[str, list[float]]:
    """Images per second that come out of `bnas.data`, augmented, and that the largest and the smallest subnet take.

    In each round `count` batches are made, in the background thread that makes them in training, while
    nothing takes time with them, and each subnet makes some steps.
    """
    images, supernet = images_of(case.size).train, elastic_resnet50(case)
    space, speeds = supernet.space, dict[str, list[float]](loading=[], largest=[], smallest=[])

    def load(epoch: int) -> None:
        order = epoch_order(len(images), 0, epoch)[: count * case.batch]
        for _ in batches(images, case.batch, order=order, augment=lambda number: number):
            pass

    with (
        bnas_step(supernet, case, space.largest) as largest,
        bnas_step(supernet, case, space.smallest) as smallest,
    ):
        for run in (partial(load, 0), largest, largest, smallest, smallest):
            run()
        for epoch in range(rounds):
            speeds["loading"].append(count * case.batch / seconds(partial(load, epoch)))
            for name, step in (("largest", largest), ("smallest", smallest)):
                step()  # it activates the subnet, once
                speeds[name].append(case.batch / seconds(step))
    return speeds
