"""Training: stages of weight sharing, distillation, and the honest evaluation of a subnet."""

from __future__ import annotations

from bnas.callable_package import make_callable
from bnas.train.config import FeatureMatch, FinetuneConfig, PretrainConfig, TrainConfig
from bnas.train.distill import DIVERGENCES, FEATURE_LOSSES, soft_label_loss
from bnas.train.evaluate import evaluate, evaluate_details, evaluate_subnet, recalibration_batches
from bnas.train.learners import finetune, pretrain, train
from bnas.train.norms import recalibrate
from bnas.train.optimizers import OPTIMIZERS
from bnas.train.sampling import SAMPLINGS, Sampling, make_sampler, smallest_open
from bnas.train.schedules import SCHEDULES, learning_rate
from bnas.train.stages import Stage, never_opened, stage_steps, validate_stages
from bnas.train.task import TASKS, Task

__all__ = [
    "DIVERGENCES",
    "FEATURE_LOSSES",
    "OPTIMIZERS",
    "SAMPLINGS",
    "SCHEDULES",
    "TASKS",
    "FeatureMatch",
    "FinetuneConfig",
    "PretrainConfig",
    "Sampling",
    "Stage",
    "Task",
    "TrainConfig",
    "evaluate",
    "evaluate_details",
    "evaluate_subnet",
    "finetune",
    "learning_rate",
    "make_sampler",
    "never_opened",
    "pretrain",
    "recalibrate",
    "recalibration_batches",
    "smallest_open",
    "soft_label_loss",
    "stage_steps",
    "train",
    "validate_stages",
]

make_callable(__name__)
