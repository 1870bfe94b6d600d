"""All video classification networks of torchvision, each a family under its own name."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torchvision.models
from torch import nn

from bnas.models.classifiers import need_colour
from bnas.models.family import ModelConfig, ModelFamily, Shape
from bnas.models.published import published_weights

_FRAMES = 16


def video_family(name: str) -> ModelFamily:
    """The family of torchvision's network `name`, for videos of `shape` (channels, frames, height, width).

    A shape without frames stands for 16 of them. MViT takes no other size than 16 × 224 × 224, and S3D none
    below it.
    """

    def make(config: ModelConfig, num_classes: int, shape: Shape) -> nn.Module:
        need_colour(name, shape)
        arguments: dict[str, Any] = {"weights": None, "num_classes": num_classes}
        model: nn.Module = torchvision.models.get_model_builder(name)(**arguments | dict(config.options))
        return model

    def inputs(config: ModelConfig, shape: Shape) -> tuple[Any, ...]:
        channels, *frames, height, width = shape
        return (torch.randn(1, channels, *(frames or (_FRAMES,)), height, width),)

    side = 224 if name.startswith(("mvit", "s3d")) else 112
    return ModelFamily(
        name=name,
        make=make,
        task="video",
        weights=partial(published_weights, name),
        inputs=inputs,
        num_classes=400,  # those of Kinetics
        shape=(3, _FRAMES, side, side),
    )


def video_names() -> list[str]:
    """The names of torchvision's video classification networks."""
    names: list[str] = torchvision.models.list_models(module=torchvision.models.video)
    return names
