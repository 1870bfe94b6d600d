"""Images per second of reading and augmenting: `OMP_WAIT_POLICY=PASSIVE python -m benchmarks.loading [--quick]`.

JPEG files of 500 × 375 pixels, made on the fly, and Fashion-MNIST in memory; each beside torchvision's own way,
a DataLoader over ImageFolder (or over PIL images) with the same augmentation from transforms.v2 and as many
worker processes as bnas has threads. The cache of decoded images stands beside what it replaces, a DataLoader
over the files. Whole epochs, one of each in turn (A B A B …); a ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2 as transforms

from benchmarks.outcome import Bar, print_outcome
from bnas.data import DataConfig, Images, batches, load_data
from bnas.data.embedded import FOLDER
from bnas.data.idx import MEAN, STD, read_split

WIDTH, HEIGHT, QUALITY = 500, 375, 90
OPERATIONS, MAGNITUDE = 2, 9
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, kw_only=True)
class Repeats:
    files: int = 384
    in_memory: int = 9_984
    batch_size: int = 64
    rounds: int = 7


QUICK = Repeats(files=64, in_memory=1024, batch_size=32, rounds=2)


@dataclass(frozen=True, kw_only=True)
class Case:
    source: str  # "files", "cache" or "memory"
    size: int
    threads: int = 1
    rand_augment: bool = False

    def __str__(self) -> str:
        more = f" + RandAugment({OPERATIONS}, {MAGNITUDE})" if self.rand_augment else ""
        return f"{self.source} {self.size}², {self.threads} thread{'s' * (self.threads > 1)}{more}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few images and repeats")
    repeats = QUICK if parser.parse_args().quick else Repeats()
    torch.set_num_threads(1)  # nothing is trained meanwhile
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{cores} cores, torch {torch.__version__}, load before: {load:.2f}\n{repeats}\n")
    print(f"{'images/s, median (p10 … p90)':<48}{'bnas':<28}{'torchvision':<28}ratio")
    figures: dict[str, Any] = {"load_before": load}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        figures["jpeg_bytes"] = _make_files(root, repeats.files)
        for case in _cases(cores):
            figures[str(case)] = measured = _measure(case, root, repeats)
            cells = "".join(f"{_text(measured[name], 0):<28}" for name in ("bnas", "torchvision"))
            print(f"{case!s:<48}{cells}{_text(measured['ratio'], 2)}", flush=True)
    print_outcome("loading", figures, _bars(figures, cores))


def _cases(cores: int) -> list[Case]:
    every = [("files", 224, n) for n in sorted({1, cores})]
    every += [("cache", size, n) for size in (64, 224) for n in sorted({1, cores})]
    every += [("memory", size, 1) for size in (32, 64)]
    return [
        Case(source=source, size=size, threads=threads, rand_augment=rand_augment)
        for source, size, threads in every
        for rand_augment in (False, True)
    ]


def _bars(figures: dict[str, Any], cores: int) -> dict[str, Bar]:
    """Files are decoded by the same library in both; the cache and the memory must pay."""
    least = {"files": 1.0, "cache": 2.0, "memory": 2.0}
    return {
        f"{case} ÷ torchvision": Bar(
            value=figures[str(case)]["ratio"]["median"], goal=f">= {least[case.source]}"
        )
        for case in _cases(cores)
    }


def _make_files(root: Path, n: int) -> float:
    """Photographs of smooth colours under noise in train/ and val/, two classes; bytes of one in the mean."""
    rng = np.random.default_rng(0)
    written = []
    for i in range(n + 4):
        folder = root / ("train" if i < n else "val") / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
        noisy = smooth + rng.normal(scale=12, size=smooth.shape)
        path = folder / f"{i}.jpg"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=QUALITY)
        written.append(path.stat().st_size)
    return float(np.mean(written))


def _measure(case: Case, root: Path, repeats: Repeats) -> dict[str, dict[str, float]]:
    ours, theirs = _ours(case, root, repeats), _theirs(case, root, repeats)
    rates: dict[str, list[float]] = {"bnas": [], "torchvision": []}
    for round_ in range(repeats.rounds + 1):
        both: list[tuple[str, Callable[[], Iterable[Any]]]] = [("bnas", ours), ("torchvision", theirs)]
        for name, epoch in both if round_ % 2 else both[::-1]:
            rates[name].append(_rate(epoch()))
    ratios = [a / b for a, b in zip(rates["bnas"], rates["torchvision"], strict=True)]
    # The first round started the workers.
    return {name: _spread(values[1:]) for name, values in (*rates.items(), ("ratio", ratios))}


def _rate(epoch: Iterable[tuple[Tensor, Tensor]]) -> float:
    begin = time.perf_counter()
    images = sum(len(x) for x, _ in epoch)
    return images / (time.perf_counter() - begin)


def _ours(case: Case, root: Path, repeats: Repeats) -> Callable[[], Iterable[Any]]:
    options: dict[str, Any] = {"name": "embedded", "train_images": repeats.in_memory}
    if case.source != "memory":
        options = {"name": "imagenet", "root": str(root), "channels": 3, "val_images": 2}
    if case.source == "cache":
        options["cache"] = str(root / "cache")
    data = load_data(
        DataConfig(
            size=case.size,
            batch_workers=case.threads,
            rand_augment=OPERATIONS if case.rand_augment else 0,
            rand_augment_magnitude=MAGNITUDE,
            **options,
        )
    )
    images: Images = data.train
    return lambda: batches(images, repeats.batch_size, augment=lambda number: number)


class _Grey(Dataset[tuple[Tensor, int]], Sized):
    """As torchvision.datasets.FashionMNIST gives its images."""

    def __init__(self, n: int, transform: Callable[[Image.Image], Tensor]) -> None:
        pixels, labels = read_split(FOLDER, "train")
        self.pixels, self.labels = torch.from_numpy(pixels[:n].copy()), labels[:n].tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index].numpy())), self.labels[index]


def _theirs(case: Case, root: Path, repeats: Repeats) -> Callable[[], Iterable[Any]]:
    if case.source == "memory":
        fit = transforms.Pad(2) if case.size == 32 else transforms.Resize(case.size)
        crop: list[Any] = [fit, transforms.RandomCrop(case.size, padding=2)]
    else:
        crop = [transforms.RandomResizedCrop(case.size)]
    mean, std = ((MEAN,), (STD,)) if case.source == "memory" else IMAGENET
    transform = transforms.Compose(
        [
            *crop,
            transforms.RandomHorizontalFlip(),
            *([transforms.RandAugment(OPERATIONS, MAGNITUDE)] if case.rand_augment else []),
            transforms.PILToTensor(),
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize(mean, std),
        ]
    )
    dataset: Any = (
        _Grey(repeats.in_memory, transform)
        if case.source == "memory"
        else ImageFolder(str(root / "train"), transform)
    )
    loader: Iterable[Any] = DataLoader(
        dataset, batch_size=repeats.batch_size, num_workers=case.threads, persistent_workers=True
    )
    return lambda: loader


def _spread(values: list[float]) -> dict[str, float]:
    p10, middle, p90 = (float(value) for value in np.percentile(values, [10, 50, 90]))
    return {"median": middle, "p10": p10, "p90": p90, "repeats": len(values)}


def _text(spread: dict[str, float], digits: int) -> str:
    return f"{spread['median']:.{digits}f} ({spread['p10']:.{digits}f} … {spread['p90']:.{digits}f})"


if __name__ == "__main__":
    main()
