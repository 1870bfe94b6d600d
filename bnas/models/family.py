"""What a model is to the rest of bnas: a name, a way to make it, its inputs, and the weights it can start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bnas.errors import ConfigError

Shape = tuple[int, ...]
Inputs = tuple[Any, ...] | dict[str, Any]
TASKS = ("classification", "segmentation", "detection", "video", "other")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network to start from.

    `name` is one of `FAMILIES`, or `my_package.my_module:make` for a callable of your own that returns an
    nn.Module (or such a module). `weights` is a file (.pth, .pt, .safetensors), the name of weights that the
    family can fetch (IMAGENET1K_V1), "none", or "auto": the family's published weights where they are made
    for as many classes, else none. `options` are the keyword arguments of the network.

    `head` "new": the last layer keeps fresh weights, so that weights made for other classes can be started from;
    "auto" then is the family's best. The run trains such a network on, as its options `pretrain` say.

    `inputs` names a callable of your own that returns example inputs: a tensor, a tuple of positional
    arguments, or a dict of keyword arguments; anything else, as a list, is one argument. `shape` (channels,
    height, width; videos: channels, frames, height, width) and `num_classes` are for a model without data:
    where there is data, it decides.
    """

    name: str = "tiny_resnet"
    weights: str | None = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: str | None = None
    shape: Shape | None = None
    num_classes: int | None = None
    head: Literal["same", "new"] = field(default="same", metadata={"plain": "unless default"})

    def __post_init__(self) -> None:
        if self.shape is not None and (not self.shape or min(self.shape) < 1):
            raise ConfigError(f"shape: expected positive sizes as [3, 224, 224], got {list(self.shape)}")
        if self.num_classes is not None and self.num_classes < 1:
            raise ConfigError(f"num_classes: expected at least 1, got {self.num_classes}")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Pretrained weights that a family knows by name; `file` is the name they are published under."""

    name: str
    file: str
    num_classes: int
    fetch: Callable[[], Mapping[str, Tensor]]


def one_image(config: ModelConfig, shape: Shape) -> tuple[Any, ...]:
    """A batch of one random image (or video), Tensor [1, *shape]."""
    return (torch.randn(1, *shape),)


@dataclass(frozen=True, kw_only=True)
class ModelFamily:
    """How to make one kind of network.

    `make(config, num_classes, shape)` returns it with fresh weights, for inputs of `shape` (channels, height,
    width). `inputs(config, shape)` returns the positional arguments of an example call, drawn from torch's
    global generator. `task` is one of `TASKS`. `weights()` lists the weights that can be fetched, the best
    first. `num_classes` (0: whatever the network makes by itself) and `shape` hold where nothing else is said.
    """

    name: str
    make: Callable[[ModelConfig, int, Shape], nn.Module]
    task: str = "classification"
    weights: Callable[[], tuple[Weights, ...]] = tuple
    inputs: Callable[[ModelConfig, Shape], Any] = one_image
    num_classes: int = 1000
    shape: Shape = (3, 224, 224)
