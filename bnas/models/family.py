"""What a model is to the rest of bnas: a name, a way to make it, and the weights it can start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network to start from.

    `name` is one of `FAMILIES`, or `my_package.my_module:make` for a callable of your own that returns an
    nn.Module. `weights` is a file (.pth, .pt, .safetensors), the name of weights that the family can fetch
    (IMAGENET1K_V1), "none", or "auto": the family's ImageNet weights where the data has ImageNet's 1000
    classes, else none. `options` are the keyword arguments of the network.
    """

    name: str = "tiny_resnet"
    weights: str | None = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Pretrained weights that a family knows by name; `file` is the name they are published under."""

    name: str
    file: str
    num_classes: int
    fetch: Callable[[], Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class ModelFamily:
    """How to make one kind of network.

    `make(config, num_classes, shape)` returns it with fresh weights, for inputs of `shape` (channels, height,
    width). `weights()` lists the weights that can be fetched, the best first.
    """

    name: str
    make: Callable[[ModelConfig, int, Shape], nn.Module]
    task: str = "classification"
    weights: Callable[[], tuple[Weights, ...]] = tuple
