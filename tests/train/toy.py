"""A problem of a second: four patterns under noise, and a small residual network that becomes a supernet.

As a program it trains in a folder until done or killed: `python toy.py pretrain|train FOLDER SECONDS`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bnas.data import ImageSplits
from bnas.graph import trace
from bnas.space import SpaceRules, derive_space
from bnas.supernet import Supernet
from bnas.train import PretrainConfig, Stage, TrainConfig, pretrain, train

SIDE = 6


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.bn1(self.conv1(x))))


class ToyNet(nn.Module):
    def __init__(self, classes: int = 4, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.dropout = nn.Dropout(0.1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(torch.relu(self.norm(self.stem(x))))
        return self.head(self.dropout(self.pool(x).flatten(1)))


@dataclass(frozen=True)
class ToyImages:
    x: Tensor
    y: Tensor
    classes: tuple[str, ...] = ("a", "b", "c", "d")

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, SIDE, SIDE

    def __len__(self) -> int:
        return len(self.y)

    def batch(
        self, indices: Sequence[int], *, augment: int | None = None, first: int = 0
    ) -> tuple[Tensor, Tensor]:
        x = self.x[list(indices)]
        if augment is not None:
            noise = np.random.default_rng(augment).normal(size=(first + len(x), *x.shape[1:]))[first:]
            x = x + 0.2 * torch.from_numpy(noise).float()
        return x, self.y[list(indices)]


def toy_images(count: int, seed: int) -> ToyImages:
    """A bright quarter of the image tells the class; noise as strong as the signal."""
    rng = np.random.default_rng(seed)
    y = rng.integers(4, size=count)
    x = rng.normal(size=(count, 1, SIDE, SIDE))
    half = SIDE // 2
    for image, label in zip(x, y, strict=True):
        row, column = divmod(int(label), 2)
        image[0, row * half : (row + 1) * half, column * half : (column + 1) * half] += 1.0
    return ToyImages(torch.from_numpy(x).float(), torch.from_numpy(y))


def toy_data() -> ImageSplits:
    return ImageSplits(name="toy", train=toy_images(70, 1), val=toy_images(200, 2), test=toy_images(10, 3))


def toy_net() -> ToyNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ToyNet()


def toy_supernet() -> Supernet:
    model = toy_net().eval()
    graph = trace(model, (torch.zeros(2, 1, SIDE, SIDE),))
    rules = SpaceRules(width_ratios=(0.5, 0.75, 1.0), width_multiple=2, width_min=2)
    return Supernet(model, graph, derive_space(graph, rules))


PRETRAIN = PretrainConfig(
    epochs=2.5, lr=0.05, warmup_epochs=0.5, batch_size=16, label_smoothing=0.1, precision="float32"
)
TRAIN = TrainConfig(
    stages=(
        Stage(name="depth", dims={"depth": 0}, epochs=1.5, lr=0.05, warmup_epochs=0.5),
        Stage(
            name="width",
            dims={"depth": 0, "width": 2},
            epochs=1.5,
            lr=0.02,
            reorder=True,
            sampling="sandwich",
            subnets_per_step=3,
        ),
    ),
    batch_size=16,
    clip_norm=5.0,
    distill=0.5,
    temperature=2.0,
    recalibrate_images=32,
    precision="float32",
)


def run(
    what: str, folder: Path | None, *, seconds: float = 60.0, tensorboard: Path | None = None
) -> dict[str, Tensor]:
    """Train a new toy network (seed 7); its final weights."""
    data = toy_data()
    options = {"checkpoint_seconds": seconds}
    if what == "pretrain":
        model: nn.Module = toy_net()
        config = PretrainConfig(**{**vars(PRETRAIN), **options})
        pretrain(model, data, config, seed=7, checkpoint=folder, tensorboard=tensorboard)
        return model.state_dict()
    supernet = toy_supernet()
    train(
        supernet,
        data,
        TrainConfig(**{**vars(TRAIN), **options}),
        seed=7,
        checkpoint=folder,
        tensorboard=tensorboard,
        teacher=toy_net(),
    )
    return supernet.model.state_dict()


if __name__ == "__main__":
    from bnas.train import loop

    torch.set_num_threads(1)
    step = loop.train_step

    def slow_step(*args: object) -> object:
        time.sleep(0.05)  # so that a kill falls where the test wants it
        return step(*args)  # type: ignore[arg-type]

    loop.train_step = slow_step  # type: ignore[assignment]
    run(sys.argv[1], Path(sys.argv[2]), seconds=float(sys.argv[3]))
