"""All segmentation networks of torchvision, each a family under its own name."""

from __future__ import annotations

from functools import partial
from typing import Any

import torchvision.models
from torch import nn

from bnas.models.classifiers import need_colour
from bnas.models.family import ModelConfig, ModelFamily, Shape
from bnas.models.published import published_weights


def segmenter_family(name: str) -> ModelFamily:
    """The family of torchvision's network `name`, without the auxiliary output for training."""

    def make(config: ModelConfig, num_classes: int, shape: Shape) -> nn.Module:
        need_colour(name, shape)
        arguments: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": num_classes}
        model: nn.Module = torchvision.models.get_model_builder(name)(**arguments | dict(config.options))
        return model

    return ModelFamily(
        name=name,
        make=make,
        task="segmentation",
        weights=partial(published_weights, name),
        num_classes=21,  # those of Pascal VOC
    )


def segmenter_names() -> list[str]:
    """The names of torchvision's segmentation networks."""
    names: list[str] = torchvision.models.list_models(module=torchvision.models.segmentation)
    return names
