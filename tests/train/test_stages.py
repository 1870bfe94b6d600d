from __future__ import annotations

import math
from typing import Any

import pytest
from toy import PRETRAIN, TRAIN, toy_supernet

from bnas.errors import ConfigError, SpaceError
from bnas.plain import from_plain, to_plain
from bnas.train import (
    PretrainConfig,
    Stage,
    TrainConfig,
    learning_rate,
    never_opened,
    smallest_open,
    stage_steps,
    validate_stages,
)


def test_learning_rate_warms_up_linearly_then_falls_as_a_cosine() -> None:
    stage = Stage(name="s", epochs=3, lr=1.0, warmup_epochs=1)
    rates = [learning_rate(stage, step, 12) for step in range(12)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    # by hand: (1 + cos(pi k / 8)) / 2
    assert rates[4:] == pytest.approx(
        [1.0, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060], abs=1e-6
    )


def test_constant_schedule() -> None:
    stage = Stage(name="s", epochs=2, lr=0.3, schedule="constant")
    assert {learning_rate(stage, step, 9) for step in range(9)} == {0.3}


@pytest.mark.parametrize(
    ("epochs", "images", "batch_size", "steps"),
    [(1, 100, 10, 10), (2.5, 100, 10, 25), (0.5, 105, 10, 5), (1, 7, 10, 1), (0.01, 100, 10, 1)],
)
def test_stage_steps(epochs: float, images: int, batch_size: int, steps: int) -> None:
    assert stage_steps(Stage(name="s", epochs=epochs), images, batch_size) == steps


@pytest.mark.parametrize(
    ("options", "starts"),
    [
        ({"epochs": 0}, "epochs: must be above 0"),
        ({"lr": math.nan}, "lr: must be above 0, got nan"),
        ({"lr": math.inf}, "lr:"),
        ({"warmup_epochs": 2.0}, "warmup_epochs: must be from 0 to epochs (1)"),
        ({"dims": {"width": -1}}, "dims.width:"),
        ({"schedule": "cosin"}, "schedule: no such schedule 'cosin'; did you mean 'cosine'?"),
        ({"sampling": "sandwhich"}, "sampling: no such sampling 'sandwhich'; did you mean 'sandwich'?"),
        ({"sampling": "sandwich"}, "subnets_per_step: must be at least 2 with sampling 'sandwich', got 1"),
    ],
)
def test_a_stage_refuses(options: dict[str, Any], starts: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Stage(**{"name": "s", **options})
    assert str(caught.value).startswith(starts)


@pytest.mark.parametrize(
    ("options", "starts"),
    [
        ({"stages": []}, "train.stages: must have at least one"),
        ({"stages": [{"name": "a"}, {"name": "a"}]}, "train.stages[1].name: must differ"),
        ({"stages": [{"name": "a", "lr": -1}]}, "train.stages[0].lr: must be above 0, got -1"),
        ({"distill": 1.5}, "train.distill: must be from 0 to 1"),
        ({"temperature": 0}, "train.temperature:"),
        ({"batch_size": 1}, "train.batch_size: must be at least 2"),
        ({"clip_norm": 0}, "train.clip_norm:"),
        ({"task": "clasification"}, "train.task: no such task 'clasification'; did you mean"),
        ({"momentum": 1}, "train.momentum:"),
        ({"weight_decay": -0.1}, "train.weight_decay:"),
        ({"precision": "float16"}, "train.precision: expected 'auto'"),
    ],
)
def test_options_are_refused_with_their_path(options: dict[str, Any], starts: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_plain(TrainConfig, options, "train")
    assert str(caught.value).startswith(starts)


def test_pretrain_options_are_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"^pretrain\.lr: must be above 0"):
        from_plain(PretrainConfig, {"lr": 0}, "pretrain")


def test_configs_survive_json() -> None:
    assert from_plain(TrainConfig, to_plain(TRAIN)) == TRAIN
    assert from_plain(PretrainConfig, to_plain(PRETRAIN)) == PRETRAIN


def test_stages_must_fit_the_space() -> None:
    space = toy_supernet().space
    validate_stages(TRAIN.stages, space)
    with pytest.raises(SpaceError, match=r"train\.stages\[1\]\.dims\.widht: .*did you mean 'width'"):
        validate_stages((Stage(name="a"), Stage(name="b", dims={"widht": 0})), space)
    with pytest.raises(SpaceError, match=r"dims\.width: 4 values to open, but its choices have at most 3"):
        validate_stages((Stage(name="a", dims={"width": 4}),), space)


def test_what_no_stage_opens_is_known() -> None:
    space = toy_supernet().space  # one depth choice (0, 1, 2), three width choices (4, 6, 8)
    widths = tuple(choice.name for choice in space.choices if choice.dim == "width")
    assert never_opened((Stage(name="a", dims={"depth": 0}),), space) == widths
    assert never_opened((Stage(name="a", dims={"depth": 0, "width": 2}),), space) == widths
    both = (Stage(name="a", dims={"depth": 0}), Stage(name="b", dims={"width": 3}))
    assert never_opened(both, space) == ()


def test_smallest_open_subnet() -> None:
    space = toy_supernet().space
    assert smallest_open(space, {}) == space.largest
    assert smallest_open(space, {"depth": 0, "width": 0}) == space.smallest
    partly = smallest_open(space, {"width": 2})
    assert {choice.dim: partly[choice.name] for choice in space.choices} == {"depth": 2, "width": 6}
