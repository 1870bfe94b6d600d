"""The options of the three trainings: of a plain network, of a supernet, of one extracted subnet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Literal

from bnas.supernet import IMPORTANCE
from bnas.train.distill import DIVERGENCES, FEATURE_LOSSES
from bnas.train.optimizers import OPTIMIZERS
from bnas.train.precision import Precision
from bnas.train.sampling import SAMPLINGS
from bnas.train.stages import LATER, Stage, check, is_positive, known
from bnas.train.task import TASKS


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What all trainings have in common.

    batch_size: images of one step of the optimizer, of all processes together and of all accumulated parts.
    accumulate: parts that a process cuts its share of the batch in, one after the other, to save memory; batch
        norms see one part at a time.
    optimizer: a key of OPTIMIZERS. momentum: of sgd (with Nesterov's step) and rmsprop; betas: of adam and adamw.
    weight_decay: on weights only, never on biases and norm layers; decay: other values of it by shell pattern
        of parameter names, the first that matches counts.
    clip_norm: largest L2 norm of the gradient of all parameters together; null does not clip. clip_value: largest
        absolute value of each of its elements, clipped first.
    label_smoothing: share of a label that is spread over all classes (Szegedy et al. 2016).
    mixup, cutmix: the Beta distribution's parameter of mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019);
        0 is off; with both, each step takes one of them by chance.
    ema_decay: keep an exponential moving average of the weights, which is what a stage ends with; null: do not.
    augment: augment the training images, in the way their data set does it.
    precision: "auto" is bfloat16 where the processor multiplies it natively, else float32; "float16" scales the
        loss against underflow.
    channels_last: lay out images and convolutions' weights with the channels last, which is faster.
    recompute: keep no activations inside blocks, compute them again in the backward pass (gradient
        checkpointing, Chen et al. 2016): less memory, about a third more time.
    sync_norms: with many processes, batch norms see the images of all of them.
    device: "auto" is the first GPU (under torchrun: the process's own), else the CPU.
    evaluate_epochs: epochs between two evaluations within a stage; 0: at its end only.
    patience: evaluations without a better metric after which a stage ends early; null: never.
    checkpoint_seconds: time between checkpoints within a stage; each stage also starts and ends with one.
    keep_checkpoints: how many of the last are kept, besides the best.
    task: a key of bnas.train.TASKS.
    """

    batch_size: int = 128
    accumulate: int = field(default=1, metadata=LATER)
    optimizer: str = field(default="sgd", metadata=LATER)
    momentum: float = 0.9
    betas: tuple[float, float] = field(default=(0.9, 0.999), metadata=LATER)
    weight_decay: float = 1e-4
    decay: Mapping[str, float] = field(default_factory=dict, metadata=LATER)
    clip_norm: float | None = None
    clip_value: float | None = field(default=None, metadata=LATER)
    label_smoothing: float = 0.0
    mixup: float = field(default=0.0, metadata=LATER)
    cutmix: float = field(default=0.0, metadata=LATER)
    ema_decay: float | None = field(default=None, metadata=LATER)
    augment: bool = True
    precision: Precision = "auto"
    channels_last: bool = field(default=True, metadata=LATER)
    recompute: bool = field(default=False, metadata=LATER)
    sync_norms: bool = field(default=True, metadata=LATER)
    device: str = field(default="auto", metadata=LATER)
    evaluate_epochs: float = field(default=0.0, metadata=LATER)
    patience: int | None = field(default=None, metadata=LATER)
    checkpoint_seconds: float = 60.0
    keep_checkpoints: int = field(default=2, metadata=LATER)
    task: str = "classification"

    def __post_init__(self) -> None:
        check(self.batch_size >= 2, "batch_size", "must be at least 2 (batch norm)", self.batch_size)
        check(self.accumulate >= 1, "accumulate", "must be at least 1", self.accumulate)
        whole = self.batch_size % self.accumulate == 0
        check(whole, "accumulate", f"must divide batch_size ({self.batch_size})", self.accumulate)
        known("optimizer", self.optimizer, OPTIMIZERS)
        check(0 <= self.momentum < 1, "momentum", "must be from 0 to below 1", self.momentum)
        check(all(0 <= b < 1 for b in self.betas), "betas", "must be from 0 to below 1", self.betas)
        for name, decay in (("weight_decay", self.weight_decay), *self.decay.items()):
            option = name if name == "weight_decay" else f"decay.{name}"
            check(isfinite(decay) and decay >= 0, option, "must be 0 or more", decay)
        for name in ("clip_norm", "clip_value"):
            clip = getattr(self, name)
            check(clip is None or is_positive(clip), name, "must be above 0, or null", clip)
        smoothing = self.label_smoothing
        check(0 <= smoothing < 1, "label_smoothing", "must be from 0 to below 1", smoothing)
        for name in ("mixup", "cutmix", "evaluate_epochs", "checkpoint_seconds"):
            value = getattr(self, name)
            check(isfinite(value) and value >= 0, name, "must be 0 or more", value)
        ema = self.ema_decay
        check(ema is None or 0 < ema < 1, "ema_decay", "must be between 0 and 1, or null", ema)
        check(self.patience is None or self.patience >= 1, "patience", "must be at least 1", self.patience)
        watched = self.patience is None or self.evaluate_epochs > 0
        check(watched, "patience", "needs evaluate_epochs above 0", self.patience)
        check(self.keep_checkpoints >= 1, "keep_checkpoints", "must be at least 1", self.keep_checkpoints)
        known("task", self.task, TASKS)
        if not TASKS[self.task].class_labels:
            for name in ("label_smoothing", "mixup", "cutmix"):
                value = getattr(self, name)
                check(
                    value == 0, name, f"must be 0 with task {self.task!r}, whose labels are no classes", value
                )


@dataclass(frozen=True, kw_only=True)
class PlainConfig(LoopConfig):
    """Training of one network of fixed shape: one stage."""

    epochs: float = 10.0
    lr: float = 0.1
    warmup_epochs: float = 0.5
    schedule: str = "cosine"
    lr_end: float = field(default=0.0, metadata=LATER)
    milestones: tuple[float, ...] = field(default=(), metadata=LATER)
    gamma: float = field(default=0.1, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.as_stage("plain")  # checks its options

    def as_stage(self, name: str) -> Stage:
        """The one stage, which opens nothing."""
        return Stage(
            name=name,
            epochs=self.epochs,
            lr=self.lr,
            warmup_epochs=self.warmup_epochs,
            schedule=self.schedule,
            lr_end=self.lr_end,
            milestones=self.milestones,
            gamma=self.gamma,
        )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(PlainConfig):
    """Training of the plain network, where no weights are given."""


@dataclass(frozen=True, kw_only=True)
class FeatureMatch:
    """A term of the loss that draws outputs of inner modules to the teacher's.

    modules: shell pattern of module names, "backbone" or "layer*"; every tensor in their outputs counts.
    loss: a key of FEATURE_LOSSES. weight: of the term in the loss.
    """

    modules: str
    loss: str = "attention"
    weight: float = 1.0

    def __post_init__(self) -> None:
        check(bool(self.modules), "modules", "must not be empty", self.modules)
        known("loss", self.loss, FEATURE_LOSSES)
        check(is_positive(self.weight), "weight", "must be above 0", self.weight)


@dataclass(frozen=True, kw_only=True)
class DistillConfig(LoopConfig):
    """How a network learns from a teacher besides the labels.

    distill: share of the loss that is the teacher's; the labels get the rest. Without a teacher the labels get
        all of it.
    temperature: of the soft labels (Hinton et al. 2015).
    divergence: a key of DIVERGENCES, from the teacher's outputs to the network's.
    features: further terms, on inner modules' outputs.
    """

    distill: float = 0.5
    temperature: float = 1.0
    divergence: str = field(default="kl", metadata=LATER)
    features: tuple[FeatureMatch, ...] = field(default=(), metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.distill <= 1, "distill", "must be from 0 to 1", self.distill)
        able = self.distill == 0 or TASKS[self.task].distill is not None
        instead = "a teacher's inner maps can be learnt from instead, with features"
        check(able, "distill", f"must be 0 with task {self.task!r} ({instead})", self.distill)
        check(is_positive(self.temperature), "temperature", "must be above 0", self.temperature)
        known("divergence", self.divergence, DIVERGENCES)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(DistillConfig):
    """Training of the supernet, stage by stage.

    teacher: "original" is the network before it became a supernet, in eval mode; "largest" is the largest subnet,
        which learns from the labels alone, comes first in each step, and teaches the others in the same step
        (in-place distillation, Yu & Huang 2019).
    subnet_gradients: what becomes of the gradients of a step's subnets, "mean" or "sum".
    dropout: "all" subnets drop, or only the "largest" one (Yu et al. 2020, "BigNAS", section 3.2).
    watch: random subnets, always the same, that are evaluated besides the largest and the smallest.
    recalibrate_images: training images that batch-norm statistics are computed from, before a subnet is
        evaluated.
    importance: what stages with `reorder` sort channels by: a key of bnas.supernet.IMPORTANCE (those that run
        the network do so on the recalibration images), or a file of scores (.json, .safetensors).
    """

    stages: tuple[Stage, ...] = (
        Stage(name="depth", dims={"depth": 0}, epochs=2.0, lr=0.02),
        Stage(name="depth-width", dims={"depth": 0, "width": 0}, epochs=4.0, lr=0.02, reorder=True),
    )
    teacher: Literal["original", "largest"] = field(default="original", metadata=LATER)
    subnet_gradients: Literal["mean", "sum"] = field(default="mean", metadata=LATER)
    dropout: Literal["all", "largest"] = field(default="all", metadata=LATER)
    watch: int = field(default=0, metadata=LATER)
    recalibrate_images: int = 1024
    importance: str = "l1"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(bool(self.stages), "stages", "must have at least one stage", self.stages)
        names = [stage.name for stage in self.stages]
        for index, name in enumerate(names):
            first = names.index(name)
            check(first == index, f"stages[{index}].name", f"must differ from that of stages[{first}]", name)
        check(self.watch >= 0, "watch", "must be 0 or more", self.watch)
        images = self.recalibrate_images
        check(images >= 2, "recalibrate_images", "must be at least 2", images)
        if not self.importance.endswith((".json", ".safetensors")):
            known("importance", self.importance, IMPORTANCE)
        if self.in_place:
            self._check_in_place()

    @property
    def in_place(self) -> bool:
        """Whether the largest subnet teaches the others."""
        return self.teacher == "largest" and (self.distill > 0 or bool(self.features))

    def _check_in_place(self) -> None:
        for index, stage in enumerate(self.stages):
            able = SAMPLINGS[stage.sampling].has_largest or not stage.dims
            allowed = ", ".join(name for name, own in SAMPLINGS.items() if own.has_largest)
            requirement = f"must be one with the largest subnet ({allowed}) where it is the teacher"
            check(able, f"stages[{index}].sampling", requirement, stage.sampling)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(PlainConfig, DistillConfig):
    """Training of extracted subnets, each on its own, after the search.

    subnets: their names; empty: all that were extracted. epochs: 0, the default, leaves them as they are.
    teacher: "original", or the "largest" subnet of the super-network.
    """

    epochs: float = 0.0
    lr: float = 0.01
    warmup_epochs: float = 0.0
    subnets: tuple[str, ...] = ()
    teacher: Literal["original", "largest"] = "original"

    def __post_init__(self) -> None:
        check(isfinite(self.epochs) and self.epochs >= 0, "epochs", "must be 0 or more", self.epochs)
        super().__post_init__()

    def as_stage(self, name: str) -> Stage:
        """The one stage; a valid one also where nothing is asked for."""
        return super().as_stage(name) if self.epochs else replace(self, epochs=1.0).as_stage(name)
