from __future__ import annotations

import math
from typing import Any

import pytest
from toy import PRETRAIN, TRAIN

from bnas.errors import ConfigError
from bnas.plain import digest, from_plain, to_plain
from bnas.train.config import (
    DistillConfig,
    FeatureMatch,
    FinetuneConfig,
    LoopConfig,
    PlainConfig,
    PretrainConfig,
    TrainConfig,
)
from bnas.train.stages import Stage

CONFIGS = (LoopConfig, PlainConfig, PretrainConfig, DistillConfig, TrainConfig, FinetuneConfig)

OF_ALL: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 1}, "batch_size: must be at least 2 (batch norm), got 1"),
    ({"accumulate": 0}, "accumulate: must be at least 1, got 0"),
    ({"batch_size": 10, "accumulate": 3}, "accumulate: must divide batch_size (10), got 3"),
    ({"optimizer": "sdg"}, "optimizer: no such optimizer 'sdg'; did you mean 'sgd'?"),
    ({"momentum": 1}, "momentum: must be from 0 to below 1, got 1"),
    ({"momentum": math.nan}, "momentum: must be from 0 to below 1, got nan"),
    ({"betas": [0.9, 1.0]}, "betas: must be from 0 to below 1, got (0.9, 1.0)"),
    ({"betas": [0.9]}, "betas: expected a list of 2, got [0.9]"),
    ({"weight_decay": -0.1}, "weight_decay: must be 0 or more, got -0.1"),
    ({"weight_decay": math.nan}, "weight_decay: must be 0 or more, got nan"),
    ({"decay": {"head.*": -1}}, "decay.head.*: must be 0 or more, got -1"),
    ({"clip_norm": 0}, "clip_norm: must be above 0, or null, got 0"),
    ({"clip_value": -1.0}, "clip_value: must be above 0, or null, got -1.0"),
    ({"clip_norm": math.inf}, "clip_norm: must be above 0, or null, got inf"),
    ({"label_smoothing": 1}, "label_smoothing: must be from 0 to below 1, got 1"),
    ({"mixup": -0.2}, "mixup: must be 0 or more, got -0.2"),
    ({"cutmix": math.inf}, "cutmix: must be 0 or more, got inf"),
    ({"ema_decay": 1}, "ema_decay: must be between 0 and 1, or null, got 1"),
    ({"ema_decay": 0}, "ema_decay: must be between 0 and 1, or null, got 0"),
    ({"precision": "float8"}, "precision: expected 'auto' or 'float32' or 'bfloat16' or 'float16'"),
    ({"channels_last": 1}, "channels_last: expected bool, got 1"),
    ({"evaluate_epochs": -1}, "evaluate_epochs: must be 0 or more, got -1"),
    ({"patience": 0, "evaluate_epochs": 1}, "patience: must be at least 1, got 0"),
    ({"patience": 3}, "patience: needs evaluate_epochs above 0, got 3"),
    ({"checkpoint_seconds": math.nan}, "checkpoint_seconds: must be 0 or more, got nan"),
    ({"keep_checkpoints": 0}, "keep_checkpoints: must be at least 1, got 0"),
    ({"task": "clasification"}, "task: no such task 'clasification'; did you mean 'classification'?"),
    ({"batchsize": 8}, "batchsize: no such option; did you mean 'batch_size'?"),
]
OF_PLAIN: list[tuple[dict[str, Any], str]] = [
    ({"epochs": -1}, "epochs: must be "),
    ({"lr": 0}, "lr: must be above 0, got 0"),
    ({"epochs": 2, "warmup_epochs": 3}, "warmup_epochs: must be from 0 to epochs (2), got 3"),
    ({"schedule": "cosin"}, "schedule: no such schedule 'cosin'; did you mean 'cosine'?"),
    ({"lr_end": -0.1}, "lr_end: must be from 0 to 1, got -0.1"),
    ({"schedule": "multistep"}, "milestones: must be given with schedule 'multistep', got ()"),
    ({"milestones": [0.5, 0.2]}, "milestones: must be rising shares of the stage"),
    ({"gamma": 2}, "gamma: must be above 0, at most 1, got 2"),
]
OF_DISTILL: list[tuple[dict[str, Any], str]] = [
    ({"distill": 1.5}, "distill: must be from 0 to 1, got 1.5"),
    ({"distill": math.nan}, "distill: must be from 0 to 1, got nan"),
    ({"temperature": 0}, "temperature: must be above 0, got 0"),
    ({"divergence": "kll"}, "divergence: no such divergence 'kll'; did you mean 'kl'?"),
    ({"features": [{"modules": ""}]}, "features[0].modules: must not be empty, got ''"),
    ({"features": [{"modules": "a", "loss": "mes"}]}, "features[0].loss: no such loss 'mes'; did you mean"),
    ({"features": [{"modules": "a", "weight": 0}]}, "features[0].weight: must be above 0, got 0"),
]
OF_TRAIN: list[tuple[dict[str, Any], str]] = [
    ({"stages": []}, "stages: must have at least one stage, got ()"),
    (
        {"stages": [{"name": "a"}, {"name": "a"}]},
        "stages[1].name: must differ from that of stages[0], got 'a'",
    ),
    ({"stages": [{"name": "a", "lr": -1}]}, "stages[0].lr: must be above 0, got -1"),
    ({"stages": [{"name": "a", "warmup_steps": 3}]}, "stages[0].warmup_steps: needs steps"),
    ({"teacher": "biggest"}, "teacher: expected 'original' or 'largest', got 'biggest'"),
    ({"subnet_gradients": "max"}, "subnet_gradients: expected 'mean' or 'sum', got 'max'"),
    ({"dropout": "none"}, "dropout: expected 'all' or 'largest', got 'none'"),
    ({"watch": -1}, "watch: must be 0 or more, got -1"),
    ({"recalibrate_images": 1}, "recalibrate_images: must be at least 2, got 1"),
    ({"importance": "tailor"}, "importance: no such importance 'tailor'; did you mean 'taylor'?"),
]
OF_FINETUNE: list[tuple[dict[str, Any], str]] = [
    ({"teacher": "biggest"}, "teacher: expected 'original' or 'largest', got 'biggest'"),
    ({"subnets": "A"}, "subnets: expected a list, got 'A'"),
]
REFUSED = [
    *((kind, *case) for kind in (PretrainConfig, TrainConfig, FinetuneConfig) for case in OF_ALL),
    *((kind, *case) for kind in (PretrainConfig, FinetuneConfig) for case in OF_PLAIN),
    *((kind, *case) for kind in (TrainConfig, FinetuneConfig) for case in OF_DISTILL),
    *((TrainConfig, *case) for case in OF_TRAIN),
    *((FinetuneConfig, *case) for case in OF_FINETUNE),
]


@pytest.mark.parametrize(("kind", "options", "message"), REFUSED)
def test_options_are_refused_with_their_path(kind: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_plain(kind, options, "here")
    assert str(caught.value).startswith(f"here.{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PretrainConfig, {"batch_size": 8, "accumulate": 4, "optimizer": "adamw", "betas": [0.8, 0.99]}),
        (
            PretrainConfig,
            {"decay": {"head.*": 0, "*.bias": 0.1}, "mixup": 0.2, "cutmix": 1, "ema_decay": 0.99},
        ),
        (PretrainConfig, {"patience": 2, "evaluate_epochs": 0.5, "precision": "float16", "recompute": True}),
        (PretrainConfig, {"schedule": "multistep", "milestones": [0.5], "gamma": 0.2, "lr_end": 0.1}),
        (
            TrainConfig,
            {"features": [{"modules": "backbone", "loss": "mse", "weight": 2}], "divergence": "alpha"},
        ),
        (TrainConfig, {"subnet_gradients": "sum", "dropout": "largest", "watch": 10, "importance": "a.json"}),
        (FinetuneConfig, {"epochs": 3, "subnets": ["A", "B"], "teacher": "largest", "distill": 0.9}),
    ],
)
def test_options_survive_json(kind: type, options: dict[str, Any]) -> None:
    config = from_plain(kind, options)
    assert config != kind()
    plain = to_plain(config)
    assert plain.items() >= {name: options[name] for name in options if name != "features"}.items()
    assert from_plain(kind, plain) == config


@pytest.mark.parametrize("config", [*(kind() for kind in CONFIGS), PRETRAIN, TRAIN])
def test_configs_survive_json(config: Any) -> None:
    assert from_plain(type(config), to_plain(config)) == config


# what runs of earlier versions were named by

BEFORE = {
    "batch_size": 128,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "label_smoothing": 0.0,
    "clip_norm": None,
    "augment": True,
    "precision": "auto",
    "checkpoint_seconds": 60.0,
    "task": "classification",
}


def test_a_plain_training_has_the_digest_that_it_always_had() -> None:
    before = {**BEFORE, "epochs": 10.0, "lr": 0.1, "warmup_epochs": 0.5, "schedule": "cosine"}
    assert to_plain(PretrainConfig()) == before
    assert digest(PretrainConfig()) == digest(before)
    assert digest(PretrainConfig(mixup=0.2)) != digest(before)


def test_the_training_of_a_supernet_has_the_digest_that_it_always_had() -> None:
    stage = {
        "warmup_epochs": 0.0,
        "schedule": "cosine",
        "sampling": "random",
        "subnets_per_step": 1,
        "lr": 0.02,
    }
    before = {
        **BEFORE,
        "stages": [
            {**stage, "name": "depth", "dims": {"depth": 0}, "epochs": 2.0, "reorder": False},
            {
                **stage,
                "name": "depth-width",
                "dims": {"depth": 0, "width": 0},
                "epochs": 4.0,
                "reorder": True,
            },
        ],
        "distill": 0.5,
        "temperature": 1.0,
        "recalibrate_images": 1024,
        "importance": "l1",
    }
    assert to_plain(TrainConfig()) == before
    assert digest(TrainConfig()) == digest(before)


# one stage


def test_a_plain_training_is_one_stage_that_opens_nothing() -> None:
    config = PretrainConfig(
        epochs=3.0,
        lr=0.2,
        warmup_epochs=1.0,
        schedule="multistep",
        lr_end=0.1,
        milestones=(0.5,),
        gamma=0.3,
    )
    assert config.as_stage("pretrain") == Stage(
        name="pretrain",
        dims={},
        epochs=3.0,
        lr=0.2,
        warmup_epochs=1.0,
        schedule="multistep",
        lr_end=0.1,
        milestones=(0.5,),
        gamma=0.3,
    )


def test_fine_tuning_is_off_unless_asked_for() -> None:
    config = FinetuneConfig()
    assert config.epochs == 0
    assert config.as_stage("A") == Stage(name="A", epochs=1.0, lr=0.01)
    assert FinetuneConfig(epochs=2.5).as_stage("A").epochs == 2.5
    with pytest.raises(ConfigError, match=r"^lr: must be above 0"):
        FinetuneConfig(lr=0.0)  # also where nothing is asked for


# distillation in place


@pytest.mark.parametrize("sampling", ["largest", "sandwich", "best_up", "worst_up"])
def test_the_largest_subnet_can_teach_where_it_is_in_every_step(sampling: str) -> None:
    stage = Stage(name="a", dims={"width": 0}, sampling=sampling, subnets_per_step=3)
    assert TrainConfig(stages=(stage,), teacher="largest").teacher == "largest"


def test_the_largest_subnet_cannot_teach_where_it_is_not_trained() -> None:
    closed = Stage(name="closed")  # trains nothing but the largest
    stage = Stage(name="open", dims={"width": 0}, subnets_per_step=2)
    with pytest.raises(ConfigError) as caught:
        TrainConfig(stages=(closed, stage), teacher="largest")
    text = "stages[1].sampling: must be one with the largest subnet (largest, sandwich, best_up, worst_up)"
    assert str(caught.value).startswith(text)
    assert str(caught.value).endswith("got 'random'")
    assert TrainConfig(stages=(closed,), teacher="largest")
    assert TrainConfig(stages=(closed, stage), teacher="largest", distill=0.0)
    assert TrainConfig(stages=(closed, stage), teacher="original")


def test_feature_terms_are_refused_alone_too() -> None:
    with pytest.raises(ConfigError, match=r"^weight: must be above 0, got nan"):
        FeatureMatch(modules="backbone", weight=math.nan)
