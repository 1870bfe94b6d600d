from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
)

from bnas.train.schedules import SCHEDULES, learning_rate
from bnas.train.stages import Stage

STEPS = 40


def stage(**options: Any) -> Stage:
    return Stage(**{"name": "s", "steps": STEPS, "lr": 0.5, **options})


def rates(stage: Stage, steps: int = STEPS) -> list[float]:
    return [learning_rate(stage, step, steps) for step in range(steps)]


def torchs_own(schedule: Callable[[torch.optim.Optimizer], LRScheduler], lr: float = 0.5) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler, found = schedule(optimizer), []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({"schedule": "cosine"}, lambda o: CosineAnnealingLR(o, STEPS)),
        ({"schedule": "cosine", "lr_end": 0.1}, lambda o: CosineAnnealingLR(o, STEPS, eta_min=0.05)),
        (
            {"schedule": "multistep", "milestones": (0.3, 0.75), "gamma": 0.2},
            lambda o: MultiStepLR(o, [12, 30], gamma=0.2),
        ),
        ({"schedule": "multistep", "milestones": (0.9,)}, lambda o: MultiStepLR(o, [36])),
        ({"schedule": "exponential", "gamma": 0.01}, lambda o: ExponentialLR(o, 0.01 ** (1 / STEPS))),
        ({"schedule": "constant"}, lambda o: MultiplicativeLR(o, lambda epoch: 1.0)),
    ],
)
def test_schedules_are_torchs_own(
    options: dict[str, Any], theirs: Callable[[torch.optim.Optimizer], LRScheduler]
) -> None:
    assert rates(stage(**options)) == pytest.approx(torchs_own(theirs), rel=1e-9, abs=1e-12)


def test_cosine_after_warm_up_by_hand() -> None:
    found = rates(Stage(name="s", epochs=3, lr=1.0, warmup_epochs=1), 12)
    assert found[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    # (1 + cos(pi k / 8)) / 2
    assert found[4:] == pytest.approx(
        [1.0, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060], abs=1e-6
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_rises_in_equal_steps_to_the_schedules_start(name: str) -> None:
    found = rates(stage(schedule=name, warmup_steps=4, milestones=(0.5,)))
    assert found[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert all(a >= b for a, b in pairwise(found[4:]))


def test_milestones_are_shares_of_what_follows_warm_up() -> None:
    found = rates(stage(schedule="multistep", warmup_steps=20, milestones=(0.25, 0.5), gamma=0.1))
    assert found[20:] == pytest.approx([0.5] * 5 + [0.05] * 5 + [0.005] * 10)


def test_exponential_stops_falling_at_lr_end() -> None:
    found = rates(stage(schedule="exponential", gamma=0.01, lr_end=0.1))
    assert found[0] == 0.5
    assert found[19] == pytest.approx(0.5 * 0.01 ** (19 / 40))
    assert found[20:] == pytest.approx([0.05] * 20)  # 0.01 ** (1 / 2) is 0.1


def test_a_stage_may_be_all_warm_up() -> None:
    found = rates(stage(warmup_steps=STEPS))
    assert found == pytest.approx([0.5 * (step + 1) / 41 for step in range(STEPS)])


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_of_a_single_step_are_above_zero(name: str) -> None:
    assert learning_rate(stage(schedule=name, milestones=(0.5,)), 0, 1) == 0.5
