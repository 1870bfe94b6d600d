"""Learning rates: linear warm-up, then a schedule over the rest of the stage."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from math import cos, pi
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnas.train.stages import Stage

# share of the stage's learning rate, by the share of the stage (after warm-up) that is done, 0 <= done < 1
SCHEDULES: dict[str, Callable[[float, Stage], float]] = {
    # Loshchilov & Hutter 2017, "SGDR", eq. 5, one cycle, down to `lr_end`
    "cosine": lambda done, stage: stage.lr_end + (1 - stage.lr_end) * (1 + cos(pi * done)) / 2,
    "constant": lambda done, stage: 1.0,
    # times `gamma` at each milestone
    "multistep": lambda done, stage: stage.gamma ** bisect_right(stage.milestones, done),
    # from 1 down to `gamma` at the end, never below `lr_end` (Yu et al. 2020, "BigNAS", section 3.2)
    "exponential": lambda done, stage: max(stage.gamma**done, stage.lr_end),
}


def learning_rate(stage: Stage, step: int, steps: int) -> float:
    """Learning rate of step `step` (from 0) of a stage of `steps`: linear warm-up, then the schedule."""
    warm = round(steps * stage.warmup)
    if step < warm:
        return stage.lr * (step + 1) / (warm + 1)
    return stage.lr * SCHEDULES[stage.schedule]((step - warm) / max(steps - warm, 1), stage)
