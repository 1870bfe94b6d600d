"""One step of a training: the passes of its subnets, the mean over processes, the optimizer's update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from bnas.space import SubnetConfig
from bnas.train.config import LoopConfig
from bnas.train.criterion import Criterion
from bnas.train.distributed import average, average_gradients, synchronized_norms
from bnas.train.feed import cut
from bnas.train.norms import still_statistics
from bnas.train.precision import autocast
from bnas.train.sampling import SAMPLINGS, Draws
from bnas.train.stages import Stage

LEAST_LOSS_SCALE = 2.0**-14  # of float16; below it, it is not the scale that makes gradients infinite
Subnet: TypeAlias = "SubnetConfig | None"  # None: a plain network, which is its own only subnet


@dataclass(frozen=True, kw_only=True)
class Learner:
    """What is trained: a plain network, or a supernet of which each step trains some subnets.

    model: holds all parameters.
    sampler: for a stage, the function from a step's number to its subnets, each given as candidates.
    run: activate a subnet and compute its outputs for images [n, C, H, W].
    criteria: for images and labels, the function from a subnet and its outputs to their loss.
    loss: of outputs and labels, without a teacher; by it candidates are compared.
    begin: called once, when a stage starts.
    evaluate: the task's metric of some subnets, by what to call them; called in stages and at their ends.
    macs: multiply-accumulates of a subnet for one image; None: not known.
    sum_gradients: a step follows the sum of its subnets' gradients, not their mean.
    """

    model: nn.Module
    sampler: Callable[[Stage], Callable[[int], Draws]]
    run: Callable[[Any, Tensor], Any]
    criteria: Callable[[Tensor, Tensor], Criterion]
    loss: Callable[[Any, Tensor], Tensor]
    begin: Callable[[Stage], None]
    evaluate: Callable[[Stage], Mapping[str, float]]
    macs: Callable[[Any], int] | None = None
    sum_gradients: bool = False


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """What a step did: the mean loss of its subnets over all processes' images, and the subnets."""

    loss: float
    subnets: tuple[Any, ...]


def train_step(
    learner: Learner,
    stage: Stage,
    draws: Draws,
    images: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    config: LoopConfig,
) -> Stepped:
    """One step of the optimizer on the mean (or the sum) of the subnets' losses.

    `images` and `labels` are this process's share of the batch. A parameter that no subnet of the step used
    has no gradient: it, its momentum and its weight decay rest. Of a parameter that was used in part, the
    rest has gradient zero: momentum and weight decay go on there.

    Raises:
        FloatingPointError: a loss or the gradient is not finite; the weights are those before the step.
    """
    optimizer.zero_grad(set_to_none=True)
    parts = list(cut(images, labels, config.accumulate))
    with synchronized_norms(config.sync_norms):
        subnets = _settled(learner, stage, draws, *parts[0], config)
        share = 1 / (len(parts) * (1 if learner.sum_gradients else len(subnets)))
        losses = [torch.zeros((), device=images.device) for _ in subnets]
        for x, y in parts:
            with autocast(config.precision, x.device):
                criterion = learner.criteria(x, y)
            for index, subnet in enumerate(subnets):
                with autocast(config.precision, x.device):
                    loss = criterion(subnet, learner.run(subnet, x))
                losses[index] += loss.detach().float() / len(parts)
                scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
    average_gradients(learner.model.parameters())
    means = average(torch.stack(losses)).tolist()
    for subnet, mean in zip(subnets, means, strict=True):
        if not isfinite(mean):
            raise FloatingPointError(f"the loss is {mean} in {_name(subnet)}")
    if config.clip_norm is not None or config.clip_value is not None:
        scaler.unscale_(optimizer)
        norm = _clipped(learner.model, config)
        if not scaler.is_enabled() and not isfinite(norm):
            raise FloatingPointError(f"the gradient's norm is {norm}, of {_names(subnets)}")
    scaler.step(optimizer)
    scaler.update()
    if scaler.is_enabled() and scaler.get_scale() < LEAST_LOSS_SCALE:
        raise FloatingPointError(f"the gradient is not finite at any loss scale, of {_names(subnets)}")
    return Stepped(loss=sum(means) / len(means), subnets=tuple(subnets))


def _clipped(model: nn.Module, config: LoopConfig) -> float:
    """Clip the gradient, by its elements and then by its norm; the norm before the latter."""
    if config.clip_value is not None:
        nn.utils.clip_grad_value_(model.parameters(), config.clip_value)
    most = config.clip_norm if config.clip_norm is not None else inf
    return nn.utils.clip_grad_norm_(model.parameters(), most).item()


def _settled(
    learner: Learner, stage: Stage, draws: Draws, images: Tensor, labels: Tensor, config: LoopConfig
) -> Sequence[Any]:
    """One subnet for each entry of `draws`: of several candidates the best or the worst on these images."""
    if all(len(candidates) == 1 for candidates in draws):
        return [candidates[0] for candidates in draws]
    best = min if SAMPLINGS[stage.sampling].pick == "lowest" else max
    chosen = []
    with torch.no_grad(), still_statistics(learner.model), autocast(config.precision, images.device):
        for candidates in draws:
            if len(candidates) == 1:
                chosen.append(candidates[0])
                continue
            losses = [learner.loss(learner.run(subnet, images), labels).float() for subnet in candidates]
            means = average(torch.stack(losses)).tolist()
            chosen.append(candidates[means.index(best(means))])
    return chosen


def _name(subnet: Subnet) -> str:
    return "the network" if subnet is None else f"subnet {subnet.digest}"


def _names(subnets: Sequence[Subnet]) -> str:
    return ", ".join(dict.fromkeys(_name(subnet) for subnet in subnets))
