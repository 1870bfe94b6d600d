"""Training: stages of weight sharing, distillation, and the honest evaluation of a subnet."""

from __future__ import annotations

from bnas.callable_package import make_callable
from bnas.train.distill import soft_label_loss
from bnas.train.evaluate import evaluate, evaluate_subnet, recalibration_batches
from bnas.train.learners import pretrain, train
from bnas.train.norms import recalibrate
from bnas.train.sampling import SAMPLINGS, Sampling, sample_stage, smallest_open
from bnas.train.stages import (
    SCHEDULES,
    PretrainConfig,
    Stage,
    TrainConfig,
    learning_rate,
    never_opened,
    stage_steps,
    validate_stages,
)
from bnas.train.task import TASKS, Task

__all__ = [
    "SAMPLINGS",
    "SCHEDULES",
    "TASKS",
    "PretrainConfig",
    "Sampling",
    "Stage",
    "Task",
    "TrainConfig",
    "evaluate",
    "evaluate_subnet",
    "learning_rate",
    "never_opened",
    "pretrain",
    "recalibrate",
    "recalibration_batches",
    "sample_stage",
    "smallest_open",
    "soft_label_loss",
    "stage_steps",
    "train",
    "validate_stages",
]

make_callable(__name__)
