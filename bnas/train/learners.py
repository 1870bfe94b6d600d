"""The three trainings: of a plain network that has no weights yet, of a supernet, and of one extracted subnet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torchvision.ops import StochasticDepth

from bnas import progress
from bnas.data import Images, ImageSplits
from bnas.plain import digest, to_plain
from bnas.space import SubnetConfig, macs_of, resized, resolution_of
from bnas.supernet import Supernet, extract_subnet, reorder_channels
from bnas.train.checkpoint import Checkpoints
from bnas.train.config import DistillConfig, FinetuneConfig, LoopConfig, PretrainConfig, TrainConfig
from bnas.train.criterion import criteria, frozen, is_largest
from bnas.train.distill import SoftLabelled, can_be_cached
from bnas.train.distributed import training_device, world
from bnas.train.evaluate import evaluate, evaluate_subnet, recalibration_batches
from bnas.train.features import check_features
from bnas.train.loop import fit
from bnas.train.norms import device_of
from bnas.train.precision import autocast
from bnas.train.sampling import Place, make_sampler, smallest_open, step_entropy
from bnas.train.stages import Stage, never_opened, validate_stages
from bnas.train.step import Learner
from bnas.train.task import TASKS, Task

# options that leave the weights as they are; they may change between a checkpoint and what goes on from it
_NO_EFFECT = frozenset({"checkpoint_seconds", "keep_checkpoints", "device"})
_WATCHING = frozenset({"recalibrate_images", "watch", "evaluate_epochs"})  # nor do these, without patience


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
        DataError, ConfigError, ModelError, RunError, KeyboardInterrupt: as in `fit`.
    """
    task = TASKS[config.task]

    def criterion(images: Tensor, labels: Tensor) -> Callable[[SubnetConfig | None, Any], Tensor]:
        return lambda subnet, outputs: task.loss(outputs, labels, config.label_smoothing)

    learner = _plain_learner(model, data, config, criterion, resolution=None)
    checkpoints = _checkpoints(checkpoint, config, _settings("pretrain", config, model, data, seed))
    stages = (config.as_stage("pretrain"),)
    fit(learner, data.train, stages, config, seed=seed, checkpoints=checkpoints, tensorboard=tensorboard)


def finetune(
    model: nn.Module,
    data: ImageSplits,
    config: FinetuneConfig,
    *,
    seed: int,
    checkpoint: Path | None = None,
    tensorboard: Path | None = None,
    teacher: nn.Module | None = None,
    resolution: int | None = None,
) -> None:
    """Train an extracted subnet on its own, in place; it ends in eval mode.

    Args:
        checkpoint, tensorboard: as in `pretrain`.
        teacher: as in `train`; it sees images in their own size.
        resolution: size in pixels of the images that the subnet takes; None: their own.

    Raises:
        DataError, ConfigError, ModelError, RunError, KeyboardInterrupt: as in `fit`.
    """
    images = _soft_labelled(data.train, teacher, config)
    with criteria(config, model=model, teacher=teacher, in_place=False, largest=None) as make:
        learner = _plain_learner(model, data, config, make, resolution=resolution)
        settings = _settings("finetune", config, model, data, seed)
        settings |= {"resolution": resolution, "teacher": teacher is not None}
        checkpoints = _checkpoints(checkpoint, config, settings)
        stages = (config.as_stage("finetune"),)
        fit(learner, images, stages, config, seed=seed, checkpoints=checkpoints, tensorboard=tensorboard)


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
        teacher: what the subnets learn from besides the labels with `config.teacher` "original", usually the
            network before it became a supernet; it is copied, and runs in eval mode. None: labels only,
            whatever `config.distill`.

    Raises:
        SpaceError: the stages do not fit the supernet's space.
        DataError, ConfigError, ModelError, RunError, KeyboardInterrupt: as in `fit`.
    """
    space, task = supernet.space, TASKS[config.task]
    validate_stages(config.stages, space)
    unopened = never_opened(config.stages, space)
    if unopened:
        progress.say(
            f"note: no stage opens all values of {unopened[0]} ({len(unopened)} such choices); subnets with "
            "the values left out are never trained"
        )
    in_place = config.in_place
    teacher = None if in_place else teacher
    if config.features and (in_place or teacher is not None):
        example, _ = data.train.batch(range(min(2, len(data.train))))
        check_features(supernet, config.features, example.to(device_of(supernet.model)), in_place=in_place)
    images = _soft_labelled(data.train, teacher, config)
    rng = np.random.default_rng(step_entropy(seed, None, Place.WATCH))
    watched = [space.sample(rng, open=config.stages[-1].dims) for _ in range(config.watch)]

    @cache
    def calibration(count: int) -> tuple[tuple[Tensor, Tensor], ...]:
        return recalibration_batches(data.train, count, seed=seed)

    def scored() -> Iterator[tuple[tuple[Tensor], Callable[[Any], Tensor]]]:
        """Batches for the importances that run the network, with the loss on their labels."""
        for x, labels in calibration(config.recalibrate_images):
            own = labels.to(device_of(supernet.model))
            yield (x.to(own.device),), partial(_loss_on, task, own)

    dropping = [module for module in supernet.model.modules() if isinstance(module, _DROPOUTS)]

    def run(subnet: SubnetConfig, x: Tensor) -> Any:
        supernet.activate(subnet)
        still: AbstractContextManager[None] = nullcontext()
        if config.dropout == "largest" and not is_largest(subnet, space.largest):
            still = _still(dropping)
        with still:
            return supernet(resized(x, resolution_of(subnet)))

    def begin(stage: Stage) -> None:
        if stage.reorder:
            reorder_channels(supernet, config.importance, scored)

    def metrics(stage: Stage) -> Mapping[str, float]:
        subnets = {"largest": space.largest, "smallest": smallest_open(space, stage.dims)}
        subnets |= {f"random-{number}": subnet for number, subnet in enumerate(watched, 1)}
        count = stage.recalibrate_images
        count = config.recalibrate_images if count is None else count
        return {
            name: evaluate_subnet(
                partial(extract_subnet, supernet),
                subnet,
                calibration(count) if count else None,
                data.val,
                precision=config.precision,
                task=config.task,
            )
            for name, subnet in subnets.items()
        }

    macs = macs_of(supernet.graph, space)
    settings = _settings("train", config, supernet.model, data, seed)
    settings |= {"space": space.digest, "teacher": teacher is not None}
    with criteria(
        config, model=supernet.model, teacher=teacher, in_place=in_place, largest=space.largest
    ) as make:
        learner = Learner(
            model=supernet.trained,
            sampler=lambda stage: make_sampler(space, stage, seed, macs),
            run=run,
            criteria=make,
            loss=lambda outputs, labels: task.loss(outputs, labels, 0.0),
            begin=begin,
            evaluate=metrics,
            macs=macs,
            sum_gradients=config.subnet_gradients == "sum",
        )
        checkpoints = _checkpoints(checkpoint, config, settings)
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


_DROPOUTS = (_DropoutNd, StochasticDepth)


@contextmanager
def _still(dropping: list[nn.Module]) -> Iterator[None]:
    """Dropout layers let everything through."""
    for module in dropping:
        module.training = False
    try:
        yield
    finally:
        for module in dropping:
            module.training = True


def _plain_learner(
    model: nn.Module,
    data: ImageSplits,
    config: LoopConfig,
    make: Callable[[Tensor, Tensor], Callable[[SubnetConfig | None, Any], Tensor]],
    *,
    resolution: int | None,
) -> Learner:
    def metrics(stage: Stage) -> Mapping[str, float]:
        with autocast(config.precision, device_of(model)):
            return {"network": evaluate(model, data.val, task=config.task, resolution=resolution)}

    return Learner(
        model=model,
        sampler=lambda stage: lambda step: ((None,),),
        run=lambda subnet, x: model(resized(x, resolution)),
        criteria=make,
        loss=lambda outputs, labels: TASKS[config.task].loss(outputs, labels, 0.0),
        begin=lambda stage: None,
        evaluate=metrics,
    )


def _soft_labelled(images: Images, teacher: nn.Module | None, config: DistillConfig) -> Images:
    """The training images, with the teacher's outputs beside the labels where they can be kept."""
    if teacher is None or config.distill == 0 or not can_be_cached(images, config):
        return images
    fixed = frozen(teacher, channels_last=config.channels_last)
    return SoftLabelled(images, fixed.to(training_device(config.device)), config.precision)


def _loss_on(task: Task, labels: Tensor, outputs: Any) -> Tensor:
    return task.loss(outputs, labels, 0.0)


def _checkpoints(folder: Path | None, config: LoopConfig, settings: Mapping[str, Any]) -> Checkpoints:
    return Checkpoints(folder, settings, keep=config.keep_checkpoints, writes=world().leads)


def _settings(
    section: str, config: LoopConfig, model: nn.Module, data: ImageSplits, seed: int
) -> dict[str, Any]:
    """What the weights depend on, as plain data, to tell a training from another."""
    without = _NO_EFFECT if config.patience is not None else _NO_EFFECT | _WATCHING
    options = {name: value for name, value in to_plain(config).items() if name not in without}
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return {
        section: options,
        "seed": seed,
        "data": {"name": data.name, "images": len(data.train), "shape": data.train.shape},
        "model": digest(shapes),
    }
