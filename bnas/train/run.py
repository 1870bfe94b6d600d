"""One training as it runs: what its stages share, and the state of the stage that is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import torch
from torch import Tensor

from bnas.data import Images
from bnas.train.checkpoint import Checkpoints, Position
from bnas.train.config import LoopConfig
from bnas.train.curves import Curves
from bnas.train.distributed import World, agreed, spread
from bnas.train.ema import Ema
from bnas.train.feed import to_device, training_batches
from bnas.train.layout import set_memory_format
from bnas.train.mixing import mix
from bnas.train.norms import device_of
from bnas.train.optimizers import make_optimizer
from bnas.train.precision import make_scaler
from bnas.train.sampling import Place, step_seed
from bnas.train.stages import Stage
from bnas.train.step import Learner, Stepped
from bnas.train.task import TASKS

STEPS_PER_POINT = 10  # of TensorBoard's curves


@dataclass
class Since:
    """What happened since the last point of the curves."""

    time: float = field(default_factory=monotonic)
    images: int = 0
    macs: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """What all stages of one call of `fit` share."""

    learner: Learner
    images: Images
    config: LoopConfig
    seed: int
    world: World
    checkpoints: Checkpoints
    curves: Curves
    interrupted: Callable[[], bool]

    def batches(self, stage: Stage, start: int, stop: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(step, images, labels) of this process's shares of the steps from `start` on."""
        share = (self.world.rank, self.world.size)
        return training_batches(self.images, stage, self.config, self.seed, start, stop, share=share)

    def prepared(self, stage: Stage, step: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The batch on the model's device, mixed where asked, with torch's generator set for the step."""
        config = self.config
        x, y = to_device(x, y, self.learner.model, config)
        if config.mixup or config.cutmix:
            torch.manual_seed(step_seed(self.seed, stage, Place.MIX, step))
            x, y = mix(x, y, mixup=config.mixup, cutmix=config.cutmix, classes=len(self.images.classes))
        torch.manual_seed(step_seed(self.seed, stage, Place.DROPOUT, step) + self.world.rank)
        return x, y

    def plotted(self, at: int, steps: int, since: Since, images: int, lr: float, made: Stepped) -> Since:
        """Add up what a step did; every so many `steps` of the stage a point of the curves, at `at`."""
        since.images += images * self.world.size
        if self.learner.macs is not None and self.world.leads:
            since.macs += [float(self.learner.macs(subnet)) for subnet in made.subnets]
        if steps % STEPS_PER_POINT:
            return since
        speed = since.images / (monotonic() - since.time)
        self.curves.add(at, {"loss": made.loss, "lr": lr, "images_per_s": speed})
        self.curves.histogram(at, "macs", since.macs)
        return Since()

    def evaluated(self, stage: Stage, at: int, ema: Ema | None) -> Mapping[str, float]:
        """The metrics of some subnets, with the averaged weights where there are any; on rank 0 only."""
        if not self.world.leads:
            return {}
        if ema is None:
            results = self.learner.evaluate(stage)
        else:
            with ema.applied(self.learner.model):
                results = self.learner.evaluate(stage)
        self.curves.add(at, named(self.config, results))
        return results


class StageState:
    """What a stage has besides the weights, as it begins or as a checkpoint has it."""

    def __init__(
        self, run: Run, index: int, stage: Stage, at: Position, saved: Mapping[str, Any] | None
    ) -> None:
        model, config = run.learner.model, run.config
        if saved is None:
            run.learner.begin(stage)
            spread(
                model.state_dict().values()
            )  # importance may order the channels otherwise on other processors
        if config.channels_last:
            set_memory_format(model, torch.channels_last)
        self.run, self.index, self.stage, self.at = run, index, stage, at
        self.optimizer = make_optimizer(model, config, stage.optimizer)
        self.scaler = make_scaler(config.precision, device_of(model))
        self.ema = Ema(model, config.ema_decay) if config.ema_decay is not None else None
        self.best: float | None = None  # metric of an evaluation within the stage
        self.since = 0  # evaluations that were no better
        if saved is not None:
            self.optimizer.load_state_dict(saved["optimizer"])
            self.scaler.load_state_dict(saved["scaler"])
            self.best, self.since = saved["watch"]["best"], saved["watch"]["since"]
            if self.ema is not None:
                self.ema.load_state_dict(saved["ema"])
        self.stopped = self._is_to_stop()

    def stepped(self, step: int) -> None:
        """The optimizer has made this step."""
        if self.ema is not None:
            self.ema.update(self.run.learner.model)
        self.at = Position(stage=self.index, step=step + 1)

    def judge(self, results: Mapping[str, float]) -> float:
        """Whether the stage is to stop, from an evaluation's results; their mean."""
        metric = mean(results)
        higher = TASKS[self.run.config.task].higher_is_better
        if self.best is None or (metric > self.best if higher else metric < self.best):
            self.best, self.since = metric, 0
        else:
            self.since += 1
        self.stopped = agreed(self.run.world.leads and self._is_to_stop())
        return metric

    def save(self, metric: float | None = None) -> None:
        """A checkpoint; with the metric of the weights in it, where it is known."""
        self.run.checkpoints.save(
            self.at,
            {
                "model": self.run.learner.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "ema": self.ema.state_dict() if self.ema is not None else None,
                "watch": {"best": self.best, "since": self.since},
            },
            metric=metric,
            higher_is_better=TASKS[self.run.config.task].higher_is_better,
        )

    def _is_to_stop(self) -> bool:
        patience = self.run.config.patience
        return patience is not None and self.since >= patience


def named(config: LoopConfig, results: Mapping[str, float]) -> dict[str, float]:
    """The metrics by the names of their curves."""
    return {f"{TASKS[config.task].metric_name}/{subnet}": value for subnet, value in results.items()}


def mean(results: Mapping[str, float]) -> float:
    """One number for the metrics of some subnets; 0 of none, as followers have."""
    return sum(results.values()) / max(len(results), 1)
