"""The optimizers of the trainings, and which parameters decay how much."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from bnas.errors import ConfigError, ModelError
from bnas.train.rmsprop import TensorFlowRMSprop

if TYPE_CHECKING:
    from bnas.train.config import LoopConfig

Groups = list[dict[str, Any]]  # torch's parameter groups: "params" and the options that are their own


def _sgd(groups: Groups, config: LoopConfig) -> Optimizer:
    """In one pass over the weights: a step on a small subnet still moves all of the weights that it has a part of."""
    weights = [parameter for group in groups for parameter in group["params"]]
    # torch's fused step reads memory in order, past the ends of a weight that is a view of a larger tensor
    dense = all(torch.empty_like(weight).stride() == weight.stride() for weight in weights)
    fused = True if dense and {weight.device.type for weight in weights} <= {"cpu", "cuda"} else None
    momentum = config.momentum
    optimizer = SGD(groups, lr=0.0, momentum=momentum, nesterov=momentum > 0, fused=fused)
    if (
        fused and momentum > 0
    ):  # torch's fused step takes no weight whose first gradient comes later than others'
        for weight in weights:
            optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return optimizer


def _adam(groups: Groups, config: LoopConfig) -> Optimizer:
    """Its weight decay is part of the gradient (L2); that of adamw acts on the weights themselves."""
    return Adam(groups, lr=0.0, betas=config.betas)


def _adamw(groups: Groups, config: LoopConfig) -> Optimizer:
    return AdamW(groups, lr=0.0, betas=config.betas)


def _rmsprop(groups: Groups, config: LoopConfig) -> Optimizer:
    return RMSprop(groups, lr=0.0, momentum=config.momentum)


def _rmsprop_tf(groups: Groups, config: LoopConfig) -> Optimizer:
    return TensorFlowRMSprop(groups, lr=0.0, momentum=config.momentum)


# from parameter groups, each with its weight decay, and the options; the learning rate is set before each step
OPTIMIZERS: dict[str, Callable[[Groups, LoopConfig], Optimizer]] = {
    "sgd": _sgd,  # with Nesterov's momentum (Sutskever et al. 2013) where there is one
    "adam": _adam,  # Kingma & Ba 2015
    "adamw": _adamw,  # Loshchilov & Hutter 2019
    "rmsprop": _rmsprop,
    "rmsprop_tf": _rmsprop_tf,  # in TensorFlow's form, with EfficientNet's constants
}


def make_optimizer(model: nn.Module, config: LoopConfig, name: str | None = None) -> Optimizer:
    """The optimizer `name` (a key of OPTIMIZERS; None: that of `config`) of what in the model requires gradients.

    Its groups are the parameters of one weight decay each: that of the first pattern of `config.decay` that
    matches one of the parameter's names, else none for vectors and scalars (biases, norm layers), else
    `config.weight_decay`. The learning rate is 0: set it before each step.

    Raises:
        ConfigError: a pattern of `config.decay` matches no parameter.
        ModelError: nothing requires gradients.
    """
    names: dict[nn.Parameter, list[str]] = {}  # a shared parameter has several
    for full, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(full)
    for pattern in config.decay:
        if not any(_matches(pattern, own) for own in names.values()):
            raise ConfigError(
                f"decay.{pattern}: matches no parameter of the network; its parameters are named as "
                f"{', '.join(own[0] for own in list(names.values())[:3])}"
            )
    groups: dict[float, list[nn.Parameter]] = {config.weight_decay: [], 0.0: []}
    for parameter, own in names.items():
        if parameter.requires_grad:
            usual = config.weight_decay if parameter.dim() > 1 else 0.0
            matching = (decay for pattern, decay in config.decay.items() if _matches(pattern, own))
            groups.setdefault(next(matching, usual), []).append(parameter)
    made = [{"params": own, "weight_decay": decay} for decay, own in groups.items() if own]
    if not made:
        raise ModelError("the network has no parameter that requires gradients: there is nothing to train")
    return OPTIMIZERS[config.optimizer if name is None else name](made, config)


def set_learning_rate(optimizer: Optimizer, rate: float) -> float:
    """Give all groups this learning rate; returns it."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def _matches(pattern: str, names: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)
