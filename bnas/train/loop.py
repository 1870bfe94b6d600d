"""The training loop, one for all: SGD over stages, resumable at any step with bit-identical results.

What a step does follows from the weights, the optimizer's state and (seed, stage, step) alone; a checkpoint
therefore needs nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import isfinite
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor, nn

from bnas import progress
from bnas.data import Images, batches, epoch_order
from bnas.errors import DataError, ModelError
from bnas.space import SubnetConfig
from bnas.train.checkpoint import Checkpoints, Position
from bnas.train.curves import Curves
from bnas.train.interrupt import deferred_interrupt
from bnas.train.norms import device_of
from bnas.train.precision import autocast
from bnas.train.sampling import Place, step_seed
from bnas.train.stages import LoopConfig, Stage, learning_rate, stage_steps, steps_per_epoch
from bnas.train.task import TASKS

STEPS_PER_POINT = 10  # of TensorBoard's curves


@dataclass(frozen=True, kw_only=True)
class Learner:
    """What the loop trains: a plain network, or a supernet of which each step trains some subnets.

    model: holds all parameters.
    subnets: those of a step of a stage; a plain network has the one subnet None.
    run: activate a subnet and compute its outputs for images [n, C, H, W].
    criterion: for a batch (images, labels), the function from outputs to their loss.
    begin: called once, when a stage starts.
    end: called when a stage has ended; the task's metric of some subnets, by what to call them.
    """

    model: nn.Module
    subnets: Callable[[Stage, int], Sequence[SubnetConfig | None]]
    run: Callable[[SubnetConfig | None, Tensor], Any]
    criterion: Callable[[Tensor, Tensor], Callable[[Any], Tensor]]
    begin: Callable[[Stage], None]
    end: Callable[[Stage], Mapping[str, float]]


def fit(
    learner: Learner,
    images: Images,
    stages: Sequence[Stage],
    config: LoopConfig,
    *,
    seed: int,
    checkpoints: Checkpoints,
    tensorboard: Path | None,
) -> None:
    """Train through all stages, from the newest checkpoint on where there is one.

    Each stage has its own optimizer: the momentum of the stage before is that of other subnets and, after
    reordering, of other channels. `learner.model` holds the result, in eval mode.

    Raises:
        DataError: fewer than two training images.
        ModelError: the loss or a weight is no longer finite; no checkpoint holds such weights.
        RunError: the checkpoints are of another training, or one cannot be written.
        KeyboardInterrupt: on Ctrl-C, after the step in progress and its checkpoint.
    """
    if len(images) < 2:
        raise DataError(f"the training split has {len(images)} images; at least 2 are needed")
    model, device = learner.model, device_of(learner.model)
    totals = [stage_steps(stage, len(images), config.batch_size) for stage in stages]
    at, optimizer_state = checkpoints.load(model)
    if at.stage == len(stages):
        model.eval()
        return
    with (
        deferred_interrupt() as interrupted,
        Curves(tensorboard, sum(totals[: at.stage]) + at.stage + at.step) as curves,
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        _training_mode(model),
    ):
        for index, stage in list(enumerate(stages))[at.stage :]:
            total, offset = totals[index], sum(totals[:index]) + index  # a stage's end is a step of its own
            if optimizer_state is None:
                learner.begin(stage)
            set_memory_format(model, torch.channels_last)
            optimizer = make_optimizer(model, config)
            if optimizer_state is not None:
                optimizer.load_state_dict(optimizer_state)
            checkpoints.save(at, model, optimizer)
            saved, plotted, seen = monotonic(), monotonic(), 0
            with progress.bar(stage.name, total) as advance:
                advance(at.step)
                for step, x, labels in training_batches(images, stage, config, seed, at.step, total):
                    lr = set_learning_rate(optimizer, learning_rate(stage, step, total))
                    torch.manual_seed(step_seed(seed, stage, Place.DROPOUT, step))
                    subnets = learner.subnets(stage, step)
                    try:
                        loss = train_step(learner, subnets, x, labels, optimizer, config)
                    except FloatingPointError as error:
                        where = f"stage '{stage.name}', step {step} of {total}"
                        raise ModelError(f"{where}: {error}; {checkpoints.advice()}") from None
                    advance(1, note=f"loss {loss:.3f}  lr {lr:.2g}")
                    at, seen = Position(stage=index, step=step + 1), seen + len(x)
                    if at.step % STEPS_PER_POINT == 0:
                        speed = seen / (monotonic() - plotted)
                        curves.add(offset + step, {"loss": loss, "lr": lr, "images_per_s": speed})
                        plotted, seen = monotonic(), 0
                    if interrupted() or at.step == total or monotonic() - saved >= config.checkpoint_seconds:
                        curves.flush()
                        checkpoints.save(at, model, optimizer)
                        saved = monotonic()
                    if interrupted():
                        raise KeyboardInterrupt
            results, metric = learner.end(stage), TASKS[config.task].metric_name
            curves.add(offset + total, {f"{metric}/{name}": value for name, value in results.items()})
            curves.flush()
            values = ", ".join(f"{name} {value:.2f}" for name, value in results.items())
            progress.say(f"{stage.name}: {total} steps; {metric} on validation images: {values}")
            at, optimizer_state = Position(stage=index + 1), None
        checkpoints.save(at, model)


def train_step(
    learner: Learner,
    subnets: Sequence[SubnetConfig | None],
    images: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    config: LoopConfig,
) -> float:
    """One step of the optimizer on the mean loss of the subnets; returns that loss.

    A parameter that no subnet of the step used has no gradient: it, its momentum and its weight decay rest.
    Of a parameter that was used in part, the rest has gradient zero: momentum and weight decay go on there.

    Raises:
        FloatingPointError: a loss is not finite; the weights are those before the step.
    """
    device = device_of(learner.model)
    images, labels = images.to(device), labels.to(device)
    if images.dim() == 4:
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer.zero_grad(set_to_none=True)
    with autocast(config.precision, device):
        criterion = learner.criterion(images, labels)
    mean = 0.0
    for subnet in subnets:
        with autocast(config.precision, device):
            loss = criterion(learner.run(subnet, images)) / len(subnets)
        value = loss.item()
        if not isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} in {f'subnet {subnet.digest}' if subnet else 'the network'}"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        mean += value
    if config.clip_norm is not None:
        nn.utils.clip_grad_norm_(learner.model.parameters(), config.clip_norm)
    optimizer.step()
    return mean


def make_optimizer(model: nn.Module, config: LoopConfig) -> torch.optim.SGD:
    """SGD with Nesterov momentum; vectors and scalars (biases, norm layers) have no weight decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(
        [
            {"params": [p for p in trained if p.dim() > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=0.0,  # set before each step
        momentum=config.momentum,
        nesterov=config.momentum > 0,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def training_batches(
    images: Images, stage: Stage, config: LoopConfig, seed: int, start: int, stop: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(step, images, labels) of a stage's steps from `start` on, each the same whatever `start` is."""
    per_epoch = steps_per_epoch(len(images), config.batch_size)
    order_seed = step_seed(seed, stage, Place.ORDER)
    while start < stop:
        epoch, first = divmod(start, per_epoch)
        before = epoch * per_epoch
        size = min(stop - before, per_epoch) * config.batch_size
        order = epoch_order(len(images), order_seed, epoch)[:size]
        augment = partial(_augment_seed, seed, stage, before) if config.augment else None
        for x, labels in batches(images, config.batch_size, order=order, augment=augment, start=first):
            yield start, x, labels
            start += 1


def _augment_seed(seed: int, stage: Stage, before: int, number: int) -> int:
    return step_seed(seed, stage, Place.AUGMENT, before + number)


@torch.no_grad()
def set_memory_format(model: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay out all 4-d parameters and buffers anew, in place.

    Also where torch sees nothing to do: which convolution kernel runs may follow from the strides of axes of
    size one, and a resumed training must run the same kernels.
    """
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.dim() == 4:
            tensor.data = torch.empty_like(tensor, memory_format=memory_format).copy_(tensor)


@contextmanager
def _training_mode(model: nn.Module) -> Iterator[None]:
    model.train()
    try:
        yield
    finally:
        model.eval()
        set_memory_format(model, torch.contiguous_format)  # what savers and exporters expect
