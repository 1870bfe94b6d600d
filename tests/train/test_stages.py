from __future__ import annotations

import math
from typing import Any

import pytest
from toy import TRAIN, toy_supernet

from bnas.errors import ConfigError, SpaceError
from bnas.plain import from_plain, to_plain
from bnas.train import Stage, never_opened, smallest_open, stage_steps, validate_stages


@pytest.mark.parametrize(
    ("epochs", "images", "batch_size", "steps"),
    [(1, 100, 10, 10), (2.5, 100, 10, 25), (0.5, 105, 10, 5), (1, 7, 10, 1), (0.01, 100, 10, 1)],
)
def test_stage_steps(epochs: float, images: int, batch_size: int, steps: int) -> None:
    assert stage_steps(Stage(name="s", epochs=epochs), images, batch_size) == steps


def test_steps_take_the_place_of_epochs() -> None:
    stage = Stage(name="s", epochs=3, steps=17)
    assert stage_steps(stage, 100, 10) == stage_steps(stage, 5, 10) == 17


@pytest.mark.parametrize(
    ("options", "warmup"),
    [
        ({}, 0.0),
        ({"epochs": 4.0, "warmup_epochs": 1.0}, 0.25),
        ({"steps": 10, "warmup_steps": 3}, 0.3),
        ({"steps": 10}, 0.0),
        ({"steps": 10, "warmup_steps": 10}, 1.0),
    ],
)
def test_warm_up_is_a_share_of_the_stage(options: dict[str, Any], warmup: float) -> None:
    assert Stage(name="s", **options).warmup == warmup


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "name: must not be empty, got ''"),
        ({"epochs": 0}, "epochs: must be above 0, got 0"),
        ({"epochs": math.inf}, "epochs: must be above 0"),
        ({"steps": 0}, "steps: must be above 0, or null, got 0"),
        ({"lr": math.nan}, "lr: must be above 0, got nan"),
        ({"lr": math.inf}, "lr: must be above 0, got inf"),
        ({"warmup_epochs": 2.0}, "warmup_epochs: must be from 0 to epochs (1), got 2.0"),
        ({"warmup_epochs": -1.0}, "warmup_epochs: must be from 0 to epochs (1), got -1.0"),
        ({"warmup_epochs": math.nan}, "warmup_epochs: must be from 0"),
        ({"warmup_steps": 2}, "warmup_steps: needs steps; give warmup_epochs with epochs"),
        ({"steps": 9, "warmup_steps": 10}, "warmup_steps: must be from 0 to steps (9), got 10"),
        ({"steps": 9, "warmup_steps": -1}, "warmup_steps: must be from 0 to steps (9), got -1"),
        (
            {"steps": 9, "warmup_epochs": 0.5},
            "warmup_epochs: must be 0 with steps; give warmup_steps, got 0.5",
        ),
        ({"dims": {"width": -1}}, "dims.width: must be 0 (all) or the number of open values, got -1"),
        ({"schedule": "cosin"}, "schedule: no such schedule 'cosin'; did you mean 'cosine'?"),
        ({"lr_end": 1.5}, "lr_end: must be from 0 to 1, got 1.5"),
        ({"lr_end": math.nan}, "lr_end: must be from 0 to 1, got nan"),
        ({"gamma": 0.0}, "gamma: must be above 0, at most 1, got 0.0"),
        ({"gamma": 1.1}, "gamma: must be above 0, at most 1, got 1.1"),
        ({"schedule": "multistep"}, "milestones: must be given with schedule 'multistep', got ()"),
        ({"milestones": (0.0, 0.5)}, "milestones: must be rising shares of the stage, between 0 and 1"),
        ({"milestones": (0.5, 1.0)}, "milestones: must be rising shares of the stage, between 0 and 1"),
        ({"milestones": (0.5, 0.4)}, "milestones: must be rising shares of the stage, between 0 and 1"),
        ({"milestones": (30.0, 60.0)}, "milestones: must be rising shares of the stage, between 0 and 1"),
        ({"optimizer": "sdg"}, "optimizer: no such optimizer 'sdg'; did you mean 'sgd'?"),
        ({"recalibrate_images": 1}, "recalibrate_images: must be 0, at least 2, or null, got 1"),
        ({"recalibrate_images": -2}, "recalibrate_images: must be 0, at least 2, or null, got -2"),
        ({"sampling": "sandwhich"}, "sampling: no such sampling 'sandwhich'; did you mean 'sandwich'?"),
        ({"sampling": "sandwich"}, "subnets_per_step: must be at least 2 with sampling 'sandwich', got 1"),
        ({"subnets_per_step": 0}, "subnets_per_step: must be at least 1 with sampling 'random', got 0"),
        ({"candidates": 1}, "candidates: must be at least 2, got 1"),
    ],
)
def test_a_stage_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Stage(**{"name": "s", **options})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 5, "warmup_steps": 5},
        {"schedule": "multistep", "milestones": [0.5, 0.75], "gamma": 1.0},
        {"optimizer": "adamw", "lr_end": 1.0, "recalibrate_images": 0},
        {"recalibrate_images": 2, "candidates": 2},
    ],
)
def test_a_stage_survives_json(options: dict[str, Any]) -> None:
    stage = from_plain(Stage, {"name": "s", **options})
    assert from_plain(Stage, to_plain(stage)) == stage
    assert to_plain(stage).items() >= options.items()


def test_later_options_at_their_defaults_are_not_written() -> None:
    assert set(to_plain(Stage(name="s"))) == {
        *("name", "dims", "epochs", "lr", "warmup_epochs", "schedule"),
        *("reorder", "sampling", "subnets_per_step"),
    }


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
