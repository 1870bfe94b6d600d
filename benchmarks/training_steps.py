"""Training steps to compare: a plain network's, as anyone writes it in PyTorch, and bnas's, as its loop makes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from bnas.graph import trace
from bnas.space import SubnetConfig, costs, derive_space, resized, resolution_of
from bnas.supernet import Supernet
from bnas.train import Stage, TrainConfig, learning_rate, make_sampler
from bnas.train.criterion import criteria
from bnas.train.feed import to_device
from bnas.train.layout import set_memory_format
from bnas.train.optimizers import make_optimizer, set_learning_rate
from bnas.train.precision import make_scaler
from bnas.train.sampling import Draws, Place, step_seed
from bnas.train.step import Learner, train_step
from bnas.train.task import TASKS

CLASSES = 10
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 1e-4, 0.9, 1e-4  # so small that the weights stay what they are
OPEN = {"depth": 0, "width": 0}
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A batch of `batch` images of `size` pixels a side."""

    batch: int
    size: int
    precision: Precision
    device: str

    def __str__(self) -> str:
        return f"{self.batch}×{self.size}², {self.precision}"

    def images(self) -> tuple[Tensor, Tensor]:
        """Images laid out channels-last, and labels."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(self.batch, 3, self.size, self.size, generator=generator)
        labels = torch.randint(CLASSES, (self.batch,), generator=generator)
        return images.to(self.device, memory_format=torch.channels_last), labels.to(self.device)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds of each step of `bnas_step` that drawing and activating took."""

    drawing: list[float] = field(default_factory=list)
    activating: list[float] = field(default_factory=list)


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes, work that a GPU has still to do included."""
    begin = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def resnet50() -> nn.Module:
    """With random weights, always the same."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model: nn.Module = torchvision.models.resnet50(weights=None, num_classes=CLASSES)
    return model


def elastic_resnet50(case: Case) -> Supernet:
    """The same network, made elastic with the default rules of the space, where it is trained."""
    model = resnet50().eval()
    graph = trace(model, (torch.zeros(1, 3, case.size, case.size),))
    supernet = Supernet(model, graph, derive_space(graph))
    supernet.trained.to(case.device).train()
    set_memory_format(supernet.trained, torch.channels_last)
    return supernet


def half_width(supernet: Supernet) -> SubnetConfig:
    """Of each choice of width the value nearest to half of the largest; all else is the largest."""
    values = dict(supernet.space.largest.values)
    for choice in supernet.space.choices:
        if choice.dim == "width":
            distance = {abs(2 * value - choice.values[-1]): value for value in choice.values}
            values[choice.name] = distance[min(distance)]
    return SubnetConfig(values)


def plain_step(
    model: nn.Module,
    case: Case,
    *,
    feed: Callable[[], tuple[Tensor, Tensor]] | None = None,
    updates: bool = True,
) -> Callable[[], float]:
    """A step as in PyTorch's tutorials and torchvision's references; it returns the loss.

    `model` is moved to where it is trained. `feed` gives each step's images and labels, None: always the
    same. Without `updates` a step ends with the backward pass.
    """
    model.to(case.device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    kind = torch.device(case.device).type
    always = case.images() if feed is None else None

    def step() -> float:
        images, labels = always or feed()  # type: ignore[misc]
        optimizer.zero_grad()
        with torch.autocast(kind, torch.bfloat16, enabled=case.precision == "bfloat16"):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        if updates:
            optimizer.step()
        return loss.item()

    return step


@contextmanager
def bnas_step(
    supernet: Supernet,
    case: Case,
    config: SubnetConfig | None,
    *,
    spent: Spent | None = None,
    updates: bool = True,
) -> Iterator[Callable[[], float]]:
    """All that `bnas.train` does in a step on images that are ready; a step returns the loss.

    The pieces are put together as `bnas.train.learners.train` and `bnas.train.loop` do it, without a teacher.

    Args:
        config: the one subnet that is trained; None: each step draws another one.
        spent: what drawing and activating takes is added to it.
        updates: see `plain_step`.
    """
    space, task = supernet.space, TASKS["classification"]
    options = TrainConfig(
        stages=(Stage(name="width", dims=OPEN, lr=LEARNING_RATE, schedule="constant"),),
        batch_size=case.batch,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        distill=0.0,
        precision=case.precision,
        device=case.device,
    )
    stage = options.stages[0]
    spent = spent or Spent()

    @lru_cache(maxsize=1024)
    def macs(subnet: SubnetConfig) -> int:
        return costs(supernet.graph, space, subnet).macs

    def sampler(stage: Stage) -> Callable[[int], Draws]:
        return make_sampler(space, stage, 0, macs) if config is None else lambda step: ((config,),)

    def run(subnet: SubnetConfig, images: Tensor) -> Any:
        begin = time.perf_counter()
        supernet.activate(subnet)
        spent.activating.append(time.perf_counter() - begin)
        return supernet(resized(images, resolution_of(subnet)))

    with criteria(
        options, model=supernet.model, teacher=None, in_place=False, largest=space.largest
    ) as make_criterion:
        learner = Learner(
            model=supernet.trained,
            sampler=sampler,
            run=run,
            criteria=make_criterion,
            loss=lambda outputs, labels: task.loss(outputs, labels, 0.0),
            begin=lambda stage: None,
            evaluate=lambda stage: {},
            macs=macs,
        )
        optimizer = make_optimizer(learner.model, options, stage.optimizer)
        if not updates:
            optimizer.step = lambda *args, **kwargs: None  # type: ignore[method-assign, assignment]
        scaler = make_scaler(options.precision, torch.device(case.device))
        draw, number, ready = learner.sampler(stage), 0, case.images()

        def step() -> float:
            nonlocal number
            set_learning_rate(optimizer, learning_rate(stage, number, 1_000_000))
            images, labels = to_device(*ready, learner.model, options)
            torch.manual_seed(step_seed(0, stage, Place.DROPOUT, number))
            begin = time.perf_counter()
            draws = draw(number)
            spent.drawing.append(time.perf_counter() - begin)
            number += 1
            return train_step(learner, stage, draws, images, labels, optimizer, scaler, options).loss

        yield step
