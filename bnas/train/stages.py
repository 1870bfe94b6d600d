"""What is trained when: stages, and the options of the two trainings.

A stage opens some of the search space's dims, trains for some epochs on its own learning-rate schedule,
and hands the weights on to the next one. Opening depth before width is progressive shrinking (Cai et al.
2020, "Once-for-All", section 3.3); one stage with everything open and sandwich sampling is the single-stage
training of BigNAS (Yu et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import cos, isfinite, pi
from typing import TYPE_CHECKING

from bnas.errors import ConfigError, SpaceError, did_you_mean
from bnas.supernet import IMPORTANCE
from bnas.train.precision import Precision
from bnas.train.sampling import SAMPLINGS, first_open
from bnas.train.task import TASKS

if TYPE_CHECKING:
    from bnas.space import SearchSpace

# share of the stage's learning rate, by the share of the stage (after warm-up) that is done, 0 <= done < 1
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: (1 + cos(pi * done)) / 2,  # Loshchilov & Hutter 2017, eq. 5, one cycle down to 0
    "constant": lambda done: 1.0,
}


def _positive(x: float) -> bool:
    return isfinite(x) and x > 0


def _check(holds: bool, option: str, requirement: str, got: object) -> None:
    if not holds:
        raise ConfigError(f"{option}: {requirement}, got {got!r}")


def _known(option: str, name: str, table: Mapping[str, object]) -> None:
    if name not in table:
        raise ConfigError(f"{option}: no such {option} {name!r}{did_you_mean(name, table)}")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of training.

    dims: how many values of a dim are open, counted from the largest, in each of its choices; 0 opens all.
        A dim that is not named stays at its largest value.
    epochs: passes over the training images; may be a fraction.
    lr: learning rate after warm-up. warmup_epochs: epochs of linear warm-up at the stage's start.
    schedule: a key of SCHEDULES, from the end of warm-up to the end of the stage.
    reorder: sort the channels by importance once, before the first step.
    sampling: a key of SAMPLINGS, which subnets a step trains; subnets_per_step counts them all.
    """

    name: str
    dims: Mapping[str, int] = field(default_factory=dict)
    epochs: float = 1.0
    lr: float = 0.01
    warmup_epochs: float = 0.0
    schedule: str = "cosine"
    reorder: bool = False
    sampling: str = "random"
    subnets_per_step: int = 1

    def __post_init__(self) -> None:
        _check(bool(self.name), "name", "must not be empty", self.name)
        _check(_positive(self.epochs), "epochs", "must be above 0", self.epochs)
        _check(_positive(self.lr), "lr", "must be above 0", self.lr)
        warm = 0 <= self.warmup_epochs <= self.epochs
        _check(warm, "warmup_epochs", f"must be from 0 to epochs ({self.epochs:g})", self.warmup_epochs)
        for dim, count in self.dims.items():
            _check(count >= 0, f"dims.{dim}", "must be 0 (all) or the number of open values", count)
        _known("schedule", self.schedule, SCHEDULES)
        _known("sampling", self.sampling, SAMPLINGS)
        fewest = SAMPLINGS[self.sampling].fewest
        enough = self.subnets_per_step >= fewest
        requirement = f"must be at least {fewest} with sampling '{self.sampling}'"
        _check(enough, "subnets_per_step", requirement, self.subnets_per_step)


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What both trainings have in common: SGD with Nesterov momentum, and how the loop runs.

    weight_decay: on weights only, never on biases and norm layers.
    clip_norm: largest L2 norm of the gradient of all parameters together; null does not clip.
    augment: augment the training images, in the way their data set does it.
    precision: "auto" is bfloat16 where the processor multiplies it natively, else float32.
    checkpoint_seconds: time between checkpoints within a stage; each stage also starts and ends with one.
    task: a key of bnas.train.TASKS.
    """

    batch_size: int = 128
    momentum: float = 0.9
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    augment: bool = True
    precision: Precision = "auto"
    checkpoint_seconds: float = 60.0
    task: str = "classification"

    def __post_init__(self) -> None:
        _check(self.batch_size >= 2, "batch_size", "must be at least 2 (batch norm)", self.batch_size)
        _check(0 <= self.momentum < 1, "momentum", "must be from 0 to below 1", self.momentum)
        decay = self.weight_decay
        _check(isfinite(decay) and decay >= 0, "weight_decay", "must be 0 or more", decay)
        smoothing = self.label_smoothing
        _check(0 <= smoothing < 1, "label_smoothing", "must be from 0 to below 1", smoothing)
        clip = self.clip_norm
        _check(clip is None or _positive(clip), "clip_norm", "must be above 0, or null", clip)
        seconds = self.checkpoint_seconds
        _check(seconds >= 0, "checkpoint_seconds", "must be 0 or more", seconds)
        _known("task", self.task, TASKS)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(LoopConfig):
    """Training of the plain network, where no weights are given: one stage."""

    epochs: float = 10.0
    lr: float = 0.1
    warmup_epochs: float = 0.5
    schedule: str = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.as_stage()  # checks its options

    def as_stage(self) -> Stage:
        """The one stage, which opens nothing."""
        return Stage(
            name="pretrain",
            epochs=self.epochs,
            lr=self.lr,
            warmup_epochs=self.warmup_epochs,
            schedule=self.schedule,
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LoopConfig):
    """Training of the supernet, stage by stage.

    distill: share of the loss that is the teacher's soft labels; the labels get the rest. Without a teacher
        the labels get all of it.
    temperature: of the soft labels (Hinton et al. 2015).
    recalibrate_images: training images that batch-norm statistics are computed from, before a subnet is
        evaluated.
    importance: what stages with `reorder` sort channels by: a key of bnas.supernet.IMPORTANCE (those that run
        the network do so on the recalibration images), or a file of scores (.json, .safetensors).
    """

    stages: tuple[Stage, ...] = (
        Stage(name="depth", dims={"depth": 0}, epochs=2.0, lr=0.02),
        Stage(name="depth-width", dims={"depth": 0, "width": 0}, epochs=4.0, lr=0.02, reorder=True),
    )
    distill: float = 0.5
    temperature: float = 1.0
    recalibrate_images: int = 1024
    importance: str = "l1"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(bool(self.stages), "stages", "must have at least one stage", self.stages)
        names = [stage.name for stage in self.stages]
        for index, name in enumerate(names):
            first = names.index(name)
            distinct = first == index
            _check(distinct, f"stages[{index}].name", f"must differ from that of stages[{first}]", name)
        _check(0 <= self.distill <= 1, "distill", "must be from 0 to 1", self.distill)
        _check(_positive(self.temperature), "temperature", "must be above 0", self.temperature)
        images = self.recalibrate_images
        _check(images >= 2, "recalibrate_images", "must be at least 2", images)
        if not self.importance.endswith((".json", ".safetensors")):
            _known("importance", self.importance, IMPORTANCE)


def validate_stages(stages: Sequence[Stage], space: SearchSpace, where: str = "train.stages") -> None:
    """Check that the space has the dims, and as many values of them, as the stages open.

    Raises:
        SpaceError: a stage opens a dim that no choice has, or more values than any choice of it has.
    """
    most: dict[str, int] = {}
    for choice in space.choices:
        most[choice.dim] = max(most.get(choice.dim, 0), len(choice.values))
    for index, stage in enumerate(stages):
        for dim, count in stage.dims.items():
            path = f"{where}[{index}].dims.{dim}"
            if dim not in most:
                raise SpaceError(f"{path}: the search space has no such dim{did_you_mean(dim, most)}")
            if count > most[dim]:
                raise SpaceError(f"{path}: {count} values to open, but its choices have at most {most[dim]}")


def never_opened(stages: Sequence[Stage], space: SearchSpace) -> tuple[str, ...]:
    """Choices of which some value is open in no stage: a search must not rely on such subnets."""
    fewest = {
        choice.name: min(first_open(len(choice.values), stage.dims.get(choice.dim)) for stage in stages)
        for choice in space.choices
    }
    return tuple(name for name, first in fewest.items() if first > 0)


def learning_rate(stage: Stage, step: int, steps: int) -> float:
    """Learning rate of step `step` (from 0) of a stage of `steps`: linear warm-up, then the schedule."""
    warm = round(steps * stage.warmup_epochs / stage.epochs)
    if step < warm:
        return stage.lr * (step + 1) / (warm + 1)
    return stage.lr * SCHEDULES[stage.schedule]((step - warm) / max(steps - warm, 1))


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches in one pass; the images left over are other ones in every epoch."""
    return max(1, images // batch_size)


def stage_steps(stage: Stage, images: int, batch_size: int) -> int:
    """Steps of a stage on so many training images, at least 1."""
    return max(1, round(stage.epochs * steps_per_epoch(images, batch_size)))
