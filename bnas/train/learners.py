"""The two trainings: of a plain network that has no weights yet, and of a supernet."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnas import progress
from bnas.data import Images, ImageSplits
from bnas.plain import digest, to_plain
from bnas.space import SubnetConfig, resized, resolution_of
from bnas.supernet import Supernet, extract_subnet, reorder_channels
from bnas.train.checkpoint import Checkpoints
from bnas.train.distill import SoftLabelled, can_be_cached
from bnas.train.evaluate import evaluate, evaluate_subnet, recalibration_batches
from bnas.train.loop import Learner, fit, set_memory_format
from bnas.train.norms import device_of
from bnas.train.precision import autocast
from bnas.train.sampling import sample_stage, smallest_open
from bnas.train.stages import LoopConfig, PretrainConfig, Stage, TrainConfig, never_opened, validate_stages
from bnas.train.task import TASKS, Task

# options that leave the weights as they are; they may change between a checkpoint and what goes on from it
_NO_EFFECT = frozenset({"checkpoint_seconds", "recalibrate_images"})


def pretrain(
    model: nn.Module,
    data: ImageSplits,
    config: PretrainConfig,
    *,
    seed: int,
    checkpoint: Path | None = None,
    tensorboard: Path | None = None,
) -> None:
    """Train a plain network on `data.train`, in place; it ends in eval mode.

    Args:
        checkpoint: folder of the checkpoints; a training that was killed goes on there and ends with
            bit-identical weights (same machine and threads). None: no checkpoints.
        tensorboard: folder of the curves. None: no curves.

    Raises:
        DataError, ModelError, RunError, KeyboardInterrupt: as in `fit`.
    """
    task = TASKS[config.task]

    def end(stage: Stage) -> Mapping[str, float]:
        with autocast(config.precision, device_of(model)):
            return {"network": evaluate(model, data.val, task=config.task)}

    learner = Learner(
        model=model,
        subnets=lambda stage, step: (None,),
        run=lambda subnet, images: model(images),
        criterion=lambda images, labels: lambda outputs: task.loss(outputs, labels, config.label_smoothing),
        begin=lambda stage: None,
        end=end,
    )
    checkpoints = Checkpoints(checkpoint, _settings("pretrain", config, model, data, seed))
    fit(
        learner,
        data.train,
        (config.as_stage(),),
        config,
        seed=seed,
        checkpoints=checkpoints,
        tensorboard=tensorboard,
    )


def train(
    supernet: Supernet,
    data: ImageSplits,
    config: TrainConfig,
    *,
    seed: int,
    checkpoint: Path | None = None,
    tensorboard: Path | None = None,
    teacher: nn.Module | None = None,
) -> None:
    """Train the subnets of a supernet on `data.train`, stage by stage; the largest is active at the end.

    Batch-norm statistics are left as the mixture that training made of them: recalibrate what you extract.

    Args:
        checkpoint, tensorboard: as in `pretrain`.
        teacher: what the subnets learn from besides the labels, usually the network before it became a
            supernet; it is copied, and runs in eval mode. None: labels only, whatever `config.distill`.

    Raises:
        SpaceError: the stages do not fit the supernet's space.
        DataError, ModelError, RunError, KeyboardInterrupt: as in `fit`.
    """
    space = supernet.space
    validate_stages(config.stages, space)
    unopened = never_opened(config.stages, space)
    if unopened:
        progress.say(
            f"note: no stage opens all values of {unopened[0]} ({len(unopened)} such choices); subnets with "
            "the values left out are never trained"
        )

    @cache
    def calibration() -> tuple[tuple[Tensor, Tensor], ...]:
        return recalibration_batches(data.train, config.recalibrate_images, seed=seed)

    def scored() -> Iterator[tuple[tuple[Tensor], Callable[[Any], Tensor]]]:
        """Batches for the importances that run the network, with the loss on their labels."""
        for x, labels in calibration():
            own = labels.to(device_of(supernet.model))
            yield (x.to(own.device),), partial(_loss_on, TASKS[config.task], own)

    images: Images = data.train
    if teacher is not None and config.distill > 0 and can_be_cached(images, config.augment):
        images = SoftLabelled(images, frozen(teacher), config.precision)

    def run(subnet: SubnetConfig | None, images: Tensor) -> Any:
        assert subnet is not None
        supernet.activate(subnet)
        return supernet(resized(images, resolution_of(subnet)))

    def begin(stage: Stage) -> None:
        if stage.reorder:
            reorder_channels(supernet, config.importance, scored)

    def end(stage: Stage) -> Mapping[str, float]:
        subnets = {"largest": space.largest, "smallest": smallest_open(space, stage.dims)}
        return {
            name: evaluate_subnet(
                lambda subnet: extract_subnet(supernet, subnet),
                subnet,
                calibration(),
                data.val,
                precision=config.precision,
                task=config.task,
            )
            for name, subnet in subnets.items()
        }

    learner = Learner(
        model=supernet.trained,
        subnets=lambda stage, step: sample_stage(space, stage, seed, step),
        run=run,
        criterion=distilled(config, teacher),
        begin=begin,
        end=end,
    )
    settings = _settings("train", config, supernet.model, data, seed)
    checkpoints = Checkpoints(checkpoint, {**settings, "space": space.digest, "teacher": teacher is not None})
    try:
        fit(
            learner,
            images,
            config.stages,
            config,
            seed=seed,
            checkpoints=checkpoints,
            tensorboard=tensorboard,
        )
    finally:
        supernet.activate(space.largest)


def distilled(
    config: TrainConfig, teacher: nn.Module | None
) -> Callable[[Tensor, Tensor], Callable[[Any], Tensor]]:
    """The criterion (1 - distill) loss(labels) + distill loss(teacher); the teacher runs once per batch."""
    task, share = TASKS[config.task], config.distill
    if teacher is None or share == 0:
        return lambda images, labels: lambda outputs: task.loss(outputs, labels, config.label_smoothing)

    fixed = frozen(teacher)

    def criterion(images: Tensor, labels: Tensor) -> Callable[[Any], Tensor]:
        if labels.dim() == 2:  # a SoftLabelled split
            labels, soft = labels[:, 0].long(), labels[:, 1:]
        else:
            with torch.no_grad():
                soft = fixed(images)

        def loss(outputs: Any) -> Tensor:
            hard = task.loss(outputs, labels, config.label_smoothing)
            return (1 - share) * hard + share * task.distill(outputs, soft, config.temperature)

        return loss

    return criterion


def _loss_on(task: Task, labels: Tensor, outputs: Any) -> Tensor:
    return task.loss(outputs, labels, 0.0)


def frozen(teacher: nn.Module) -> nn.Module:
    """A copy of the teacher that only runs: in eval mode, without gradients."""
    copied = copy.deepcopy(teacher).eval().requires_grad_(False)
    set_memory_format(copied, torch.channels_last)
    return copied


def _settings(
    section: str, config: LoopConfig, model: nn.Module, data: ImageSplits, seed: int
) -> dict[str, Any]:
    """What the weights depend on, as plain data, to tell a training from another."""
    options = {name: value for name, value in to_plain(config).items() if name not in _NO_EFFECT}
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return {
        section: options,
        "seed": seed,
        "data": {"name": data.name, "images": len(data.train), "shape": data.train.shape},
        "model": digest(shapes),
    }
