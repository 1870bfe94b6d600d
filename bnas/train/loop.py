"""The training loop, one for all: stages of steps, resumable at any step with bit-identical results.

What a step does follows from the state (weights, optimizer, loss scale, moving averages) and from
(seed, stage, step) alone; a checkpoint therefore needs nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic

import torch

from bnas import progress
from bnas.data import Images, check_images
from bnas.errors import DataError, ModelError, RunError
from bnas.train.checkpoint import Checkpoints, Position
from bnas.train.config import LoopConfig
from bnas.train.curves import Curves
from bnas.train.distributed import agreed, alike, share_of, training_device, world
from bnas.train.feed import check_parts
from bnas.train.interrupt import deferred_interrupt
from bnas.train.layout import in_training
from bnas.train.optimizers import set_learning_rate
from bnas.train.recompute import recomputed
from bnas.train.run import Run, Since, StageState, mean, named
from bnas.train.schedules import learning_rate
from bnas.train.stages import Stage, stage_steps, steps_per_epoch
from bnas.train.step import Learner, train_step
from bnas.train.task import TASKS


def fit(
    learner: Learner,
    images: Images,
    stages: Sequence[Stage],
    config: LoopConfig,
    *,
    seed: int,
    checkpoints: Checkpoints,
    tensorboard: Path | None,
) -> None:
    """Train through all stages, from the newest checkpoint on where there is one.

    Each stage has its own optimizer: the momentum of the stage before is that of other subnets and, after
    reordering, of other channels. `learner.model` holds the result, in eval mode, where it lay before. In a
    process group (torchrun) every process calls this; all end with the same weights, and rank 0 alone writes.

    Raises:
        DataError: fewer than two training images, or a label that no class has.
        ConfigError: a part of the batch is too small, or there is no such device.
        ModelError: the loss or a weight is no longer finite; no checkpoint holds such weights.
        RunError: the checkpoints are of another training, or one cannot be written.
        KeyboardInterrupt: on Ctrl-C, after the step in progress and its checkpoint.
    """
    if len(images) < 2:
        raise DataError(f"the training split has {len(images)} images; at least 2 are needed")
    check_images(images)
    group, model = world(), learner.model
    smallest = share_of(min(config.batch_size, len(images)), group) // config.accumulate
    check_parts(model, smallest, synchronized=config.sync_norms and group.size > 1)
    at, state = checkpoints.load()
    if not alike(at.stage << 32 | at.step):  # nor does anybody save before all have loaded
        raise RunError(
            f"{checkpoints.folder} does not hold the same checkpoints for all processes; the run folder has to be on a "
            "file system that all machines share: runs=/path/on/all/machines"
        )
    if state is not None:
        model.load_state_dict(state["model"])
    if at.stage == len(stages):
        model.eval()
        return
    totals = [stage_steps(stage, len(images), config.batch_size) for stage in stages]
    offsets = [sum(totals[:index]) + index for index in range(len(stages))]  # a stage's end is a step, too
    device = training_device(config.device)
    with (
        deferred_interrupt() as interrupted,
        Curves(tensorboard if group.leads else None, offsets[at.stage] + at.step) as curves,
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        in_training(model, device, channels_last=config.channels_last),
        recomputed(model, config.recompute),
    ):
        run = Run(learner, images, config, seed, group, checkpoints, curves, interrupted)
        results: Mapping[str, float] = {}
        for index, stage in list(enumerate(stages))[at.stage :]:
            results = _train_stage(
                run, StageState(run, index, stage, at, state), totals[index], offsets[index]
            )
            at, state = Position(stage=index + 1), None
        curves.settings(vars(config), named(config, results))
        curves.flush()
        checkpoints.save(at, {"model": model.state_dict()})


def _train_stage(run: Run, state: StageState, total: int, offset: int) -> Mapping[str, float]:
    """Train one stage of `total` steps from where its state is; the metrics at its end.

    `offset` is the step of the curves at which the stage starts.
    """
    config, learner, stage = run.config, run.learner, state.stage
    every = round(config.evaluate_epochs * steps_per_epoch(len(run.images), config.batch_size))
    draw, since, saved = learner.sampler(stage), Since(), monotonic()
    state.save()
    with progress.bar(stage.name, total) as advance:
        advance(state.at.step)
        for step, x, y in run.batches(stage, state.at.step, state.at.step if state.stopped else total):
            lr = set_learning_rate(state.optimizer, learning_rate(stage, step, total))
            x, y = run.prepared(stage, step, x, y)
            try:
                made = train_step(learner, stage, draw(step), x, y, state.optimizer, state.scaler, config)
            except FloatingPointError as error:
                where = f"stage '{stage.name}', step {step} of {total}"
                raise ModelError(f"{where}: {error}; {run.checkpoints.advice()}") from None
            state.stepped(step)
            advance(1, note=f"loss {made.loss:.3f}  lr {lr:.2g}")
            since = run.plotted(offset + step, state.at.step, since, len(x), lr, made)
            metric = None
            if every and state.at.step % every == 0 and state.at.step < total:
                results = run.evaluated(stage, offset + step, state.ema)
                metric = state.judge(results)
                note = ", ".join(f"{name} {value:.2f}" for name, value in results.items())
                progress.say(f"{stage.name}, step {state.at.step}: {note}")
            halted = agreed(run.interrupted())
            due = monotonic() - saved >= config.checkpoint_seconds
            if halted or metric is not None or state.at.step == total or due:
                run.curves.flush()
                state.save(metric)
                saved = monotonic()
            if halted:
                raise KeyboardInterrupt
            if state.stopped:
                break
    if state.ema is not None:
        state.ema.copy_to(learner.model)
    results = run.evaluated(stage, offset + total, None)
    run.curves.add(offset + total, {"stage": state.at.stage})
    run.curves.flush()
    state.save(mean(results))
    values = ", ".join(f"{name} {value:.2f}" for name, value in results.items())
    early = f" of {total}: no better metric in {config.patience} evaluations" if state.stopped else ""
    metric_name = TASKS[config.task].metric_name
    progress.say(f"{stage.name}: {state.at.step} steps{early}; {metric_name} on validation images: {values}")
    return results
