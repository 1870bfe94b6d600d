"""All classification networks of torchvision, each a family under its own name."""

from __future__ import annotations

from functools import partial
from typing import Any

import torchvision.models
from torch import nn

from bnas.errors import ModelError
from bnas.models.family import ModelConfig, ModelFamily, Shape
from bnas.models.published import published_weights

# These two have auxiliary outputs for training, which a super-network has no use for, and a weight
# initialisation that they warn about unless it is chosen.
_WITH_AUXILIARY = ("googlenet", "inception_v3")


def classifier_family(name: str) -> ModelFamily:
    """The family of torchvision's network `name`; `ModelConfig.options` are its keyword arguments."""

    def make(config: ModelConfig, num_classes: int, shape: Shape) -> nn.Module:
        need_colour(name, shape)
        arguments: dict[str, Any] = {"num_classes": num_classes}
        if name in _WITH_AUXILIARY:
            # Their published weights expect inputs normalised another way; transform_input sees to that.
            fresh = config.weights in (None, "none") or (config.weights == "auto" and num_classes != 1000)
            arguments |= {"aux_logits": False, "init_weights": True, "transform_input": not fresh}
        if name.startswith("vit_"):
            arguments["image_size"] = shape[-1]
        if name.startswith("maxvit_"):
            arguments["input_size"] = tuple(shape[1:])
        model: nn.Module = torchvision.models.get_model_builder(name)(**arguments | dict(config.options))
        return model

    return ModelFamily(name=name, make=make, weights=partial(published_weights, name))


def classifier_names() -> list[str]:
    """The names of torchvision's classification networks."""
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def need_colour(name: str, shape: Shape) -> None:
    """Raise ModelError unless inputs of `shape` have the three channels that torchvision's networks take."""
    if shape[0] != 3:
        raise ModelError(
            f"{name} takes colour images (3 channels), the data has {shape[0]}: set data.channels=3, or without "
            "data model.shape=[3,HEIGHT,WIDTH]"
        )
