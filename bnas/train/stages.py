"""What is trained when: the stages of a training.

A stage opens some of the search space's dims, trains for some epochs on its own learning-rate schedule,
and hands the weights on to the next one. Opening depth before width is progressive shrinking (Cai et al.
2020, "Once-for-All", section 3.3); one stage with everything open and sandwich sampling is the single-stage
training of BigNAS (Yu et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING

from bnas.errors import ConfigError, SpaceError, did_you_mean
from bnas.train.optimizers import OPTIMIZERS
from bnas.train.sampling import SAMPLINGS, first_open
from bnas.train.schedules import SCHEDULES

if TYPE_CHECKING:
    from bnas.space import SearchSpace

LATER = {"plain": "unless default"}  # options that came later: those of older runs keep their digest


def is_positive(x: float) -> bool:
    return isfinite(x) and x > 0


def check(holds: bool, option: str, requirement: str, got: object) -> None:
    """Raise ConfigError unless an option's requirement holds."""
    if not holds:
        raise ConfigError(f"{option}: {requirement}, got {got!r}")


def known(option: str, name: str, table: Mapping[str, object]) -> None:
    """Raise ConfigError unless the option's value is a key of its table."""
    if name not in table:
        raise ConfigError(f"{option}: no such {option} {name!r}{did_you_mean(name, table)}")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of training.

    dims: how many values of a dim are open, counted from the largest, in each of its choices; 0 opens all.
        A dim that is not named stays at its largest value.
    epochs: passes over the training images; may be a fraction. steps: that many steps instead.
    lr: learning rate after warm-up. warmup_epochs: epochs of linear warm-up at the stage's start;
        warmup_steps: that many steps instead.
    schedule: a key of SCHEDULES, from the end of warm-up to the end of the stage. lr_end: least share of lr
        ("cosine", "exponential"); milestones: shares of the stage after warm-up at which lr is multiplied by
        gamma ("multistep"); "exponential" falls to gamma.
    optimizer: a key of OPTIMIZERS for this stage; null: that of the training.
    reorder: sort the channels by importance once, before the first step.
    recalibrate_images: training images that batch norms are recalibrated on before a subnet is evaluated in
        this stage; null: as for the whole training; 0: subnets are evaluated with the statistics that training left.
    sampling: a key of SAMPLINGS, which subnets a step trains; subnets_per_step counts them all.
    candidates: of how many subnets of like MACs the best or the worst is trained ("best_up", "worst_up").
    """

    name: str
    dims: Mapping[str, int] = field(default_factory=dict)
    epochs: float = 1.0
    steps: int | None = field(default=None, metadata=LATER)
    lr: float = 0.01
    warmup_epochs: float = 0.0
    warmup_steps: int | None = field(default=None, metadata=LATER)
    schedule: str = "cosine"
    lr_end: float = field(default=0.0, metadata=LATER)
    milestones: tuple[float, ...] = field(default=(), metadata=LATER)
    gamma: float = field(default=0.1, metadata=LATER)
    optimizer: str | None = field(default=None, metadata=LATER)
    reorder: bool = False
    recalibrate_images: int | None = field(default=None, metadata=LATER)
    sampling: str = "random"
    subnets_per_step: int = 1
    candidates: int = field(default=3, metadata=LATER)

    def __post_init__(self) -> None:
        check(bool(self.name), "name", "must not be empty", self.name)
        check(is_positive(self.epochs), "epochs", "must be above 0", self.epochs)
        check(self.steps is None or self.steps > 0, "steps", "must be above 0, or null", self.steps)
        check(is_positive(self.lr), "lr", "must be above 0", self.lr)
        self._check_warmup()
        for dim, count in self.dims.items():
            check(count >= 0, f"dims.{dim}", "must be 0 (all) or the number of open values", count)
        known("schedule", self.schedule, SCHEDULES)
        check(0 <= self.lr_end <= 1, "lr_end", "must be from 0 to 1", self.lr_end)
        check(is_positive(self.gamma) and self.gamma <= 1, "gamma", "must be above 0, at most 1", self.gamma)
        rising = all(0 < a < 1 for a in self.milestones) and list(self.milestones) == sorted(self.milestones)
        check(rising, "milestones", "must be rising shares of the stage, between 0 and 1", self.milestones)
        steps = self.schedule != "multistep" or bool(self.milestones)
        check(steps, "milestones", "must be given with schedule 'multistep'", self.milestones)
        if self.optimizer is not None:
            known("optimizer", self.optimizer, OPTIMIZERS)
        images = self.recalibrate_images
        enough = images is None or images == 0 or images >= 2
        check(enough, "recalibrate_images", "must be 0, at least 2, or null", images)
        known("sampling", self.sampling, SAMPLINGS)
        fewest = SAMPLINGS[self.sampling].fewest
        requirement = f"must be at least {fewest} with sampling '{self.sampling}'"
        check(self.subnets_per_step >= fewest, "subnets_per_step", requirement, self.subnets_per_step)
        check(self.candidates >= 2, "candidates", "must be at least 2", self.candidates)

    def _check_warmup(self) -> None:
        if self.warmup_steps is not None:
            told = "needs steps; give warmup_epochs with epochs"
            check(self.steps is not None, "warmup_steps", told, self.warmup_steps)
            allowed = f"must be from 0 to steps ({self.steps})"
            check(0 <= self.warmup_steps <= (self.steps or 0), "warmup_steps", allowed, self.warmup_steps)
        requirement = "must be 0 with steps; give warmup_steps"
        check(self.steps is None or self.warmup_epochs == 0, "warmup_epochs", requirement, self.warmup_epochs)
        warm = 0 <= self.warmup_epochs <= self.epochs
        check(warm, "warmup_epochs", f"must be from 0 to epochs ({self.epochs:g})", self.warmup_epochs)

    @property
    def warmup(self) -> float:
        """Warm-up as a share of the stage."""
        if self.steps is not None:
            return (self.warmup_steps or 0) / self.steps
        return self.warmup_epochs / self.epochs


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


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches in one pass; the images left over are other ones in every epoch."""
    return max(1, images // batch_size)


def stage_steps(stage: Stage, images: int, batch_size: int) -> int:
    """Steps of a stage on so many training images, at least 1."""
    if stage.steps is not None:
        return stage.steps
    return max(1, round(stage.epochs * steps_per_epoch(images, batch_size)))
