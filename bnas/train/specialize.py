"""Chosen subnets trained on, each on its own, with what that gained."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from bnas import progress
from bnas.data import Images, ImageSplits
from bnas.errors import ConfigError, did_you_mean
from bnas.space import SubnetConfig, resolution_of
from bnas.supernet import Supernet, extract_subnet
from bnas.train.config import FinetuneConfig
from bnas.train.evaluate import evaluate, recalibration_batches
from bnas.train.learners import finetune
from bnas.train.norms import recalibrate
from bnas.train.task import TASKS

RECALIBRATE_IMAGES = 1024  # as many as TrainConfig's default
Batches = tuple[tuple[Tensor, Tensor], ...]


@dataclass(frozen=True, kw_only=True)
class Specialized:
    """A subnet after it was trained on its own, or as it was where that made it no better (`kept` is False).

    module: in eval mode. config: None for a module that was given as one. metric: the task's, which `before` and
        `after` are values of.
    """

    name: str
    module: nn.Module = field(compare=False)
    metric: str
    before: float
    after: float
    kept: bool
    config: SubnetConfig | None = None


def specialize(
    source: Supernet | None,
    subnets: Mapping[str, SubnetConfig | nn.Module],
    data: ImageSplits,
    config: FinetuneConfig,
    *,
    seed: int,
    teacher: nn.Module | None = None,
    split: Images | None = None,
    recalibrate_images: int = RECALIBRATE_IMAGES,
    checkpoint: Path | None = None,
    tensorboard: Path | None = None,
) -> dict[str, Specialized]:
    """Train each subnet on `data.train` for `config.epochs`, and keep what it became where that is better.

    Neither the super-network nor a module that was given changes. Batch norms are recalibrated when a config's subnet
    is taken out, as its statistics are a mixture of all subnets', and again after the training. Cai et al. 2020,
    "Once-for-All", table 2, have such rows: their specialised networks, fine-tuned for 25 and 75 epochs.

    Args:
        source: the super-network that configs are of; None, where all subnets are modules.
        subnets: by name, configs of `source`, or plain modules.
        teacher: what they learn from besides the labels, by `config.distill` and `config.features`. None: the largest
            subnet of `source`, or the labels alone where there is none.
        split: the images that `before` and `after` are on, which also decide what is kept; None: `data.val`.
        recalibrate_images: how many training images batch norms are recalibrated on; 0: never.
        checkpoint, tensorboard: folders, as in `pretrain`; each subnet has one of its name in it.

    Raises:
        ConfigError: no epochs are asked for; a config without a super-network; `config.subnets`, which picks some by
            name, has another name.
        SpaceError: a config is not of the super-network's space.
        DataError, ModelError, RunError, KeyboardInterrupt: as in `finetune`.
    """
    _check(source, subnets, config)
    batches = recalibration_batches(data.train, recalibrate_images, seed=seed) if recalibrate_images else ()
    if teacher is None and source is not None and (config.distill or config.features):
        teacher = _taken_out(source, source.space.largest, batches)
    return {
        name: _specialized(
            name,
            copy.deepcopy(own) if isinstance(own, nn.Module) else _taken_out(source, own, batches),
            own if isinstance(own, SubnetConfig) else None,
            partial(
                finetune,
                data=data,
                config=config,
                seed=seed,
                teacher=teacher,
                checkpoint=checkpoint / name if checkpoint else None,
                tensorboard=tensorboard / name if tensorboard else None,
            ),
            batches,
            data.val if split is None else split,
            config.task,
        )
        for name, own in subnets.items()
        if not config.subnets or name in config.subnets
    }


def is_better(task: str, before: float, after: float) -> bool:
    """Whether a metric of the task became better."""
    return after > before if TASKS[task].higher_is_better else after < before


def _specialized(
    name: str,
    module: nn.Module,
    config: SubnetConfig | None,
    train: Callable[..., None],
    batches: Batches,
    images: Images,
    task: str,
) -> Specialized:
    size = resolution_of(config)
    before = evaluate(module, images, task=task, resolution=size)
    trained = copy.deepcopy(module)
    train(trained, resolution=size)
    if batches:
        recalibrate(trained, batches, resolution=size)
    after = evaluate(trained, images, task=task, resolution=size)
    better = is_better(task, before, after)
    metric = TASKS[task].metric_name
    progress.say(
        f"{name}: {metric} {before:.2f} before, {after:.2f} fine-tuned{'' if better else ' (left as it was)'}"
    )
    return Specialized(
        name=name,
        module=(trained if better else module).eval(),
        metric=metric,
        before=before,
        after=after,
        kept=better,
        config=config,
    )


def _taken_out(source: Supernet | None, config: SubnetConfig, batches: Batches) -> nn.Module:
    """A subnet with statistics of its own."""
    assert source is not None
    module = extract_subnet(source, config)
    if batches:
        recalibrate(module, batches, resolution=resolution_of(config))
    return module


def _check(
    source: Supernet | None, subnets: Mapping[str, SubnetConfig | nn.Module], config: FinetuneConfig
) -> None:
    """Everything that can be wrong is told before the first training."""
    if not subnets:
        raise ConfigError("specialize: subnets: expected one at least, got none")
    if not config.epochs:
        raise ConfigError("specialize: epochs: expected more than 0, got 0, as in FinetuneConfig(epochs=5)")
    for name in config.subnets:
        if name not in subnets:
            raise ConfigError(f"specialize: config.subnets: no subnet '{name}'{did_you_mean(name, subnets)}")
    for name, own in subnets.items():
        if isinstance(own, nn.Module):
            continue
        if source is None:
            raise ConfigError(
                f"specialize: subnets['{name}'] is a config; give the super-network that it is of"
            )
        source.space.validate(own)
