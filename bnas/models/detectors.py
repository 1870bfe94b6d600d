"""All detection networks of torchvision, each a family under its own name."""

from __future__ import annotations

from typing import Any

import torch
import torchvision.models
from torch import nn

from bnas.models.classifiers import need_colour
from bnas.models.family import ModelConfig, ModelFamily, Shape

_FIXED_SIZE = ("ssd300", "ssdlite320")  # they scale every image to the size in their name
_HEADS_ON_FOUND_BOXES = ("maskrcnn", "keypointrcnn")


def detector_family(name: str) -> ModelFamily:
    """The family of torchvision's detector `name`, for images of the size of the example.

    Its weights are fresh, or those of a file: none are fetched. A network made without weights has plain
    batch norms where torchvision's published ones have frozen ones.
    """

    def make(config: ModelConfig, num_classes: int, shape: Shape) -> nn.Module:
        need_colour(name, shape)
        arguments: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": num_classes}
        if not name.startswith(_FIXED_SIZE):
            arguments |= {"min_size": min(shape[1:]), "max_size": max(shape[1:])}
        if name.startswith(_HEADS_ON_FOUND_BOXES):
            # Fresh weights give every box a score of about 1 / num_classes. Below the usual threshold of 0.05
            # none would reach the heads for masks and keypoints, and these would seem to cost nothing.
            arguments["box_score_thresh"] = 0.0
        model: nn.Module = torchvision.models.get_model_builder(name)(**arguments | dict(config.options))
        return model

    def inputs(config: ModelConfig, shape: Shape) -> tuple[Any, ...]:
        return ([torch.rand(*shape)],)

    classes = 2 if name.startswith("keypointrcnn") else 91  # those of COCO
    return ModelFamily(
        name=name, make=make, task="detection", inputs=inputs, num_classes=classes, shape=(3, 320, 320)
    )


def detector_names() -> list[str]:
    """The names of torchvision's detection networks."""
    names: list[str] = torchvision.models.list_models(module=torchvision.models.detection)
    return names
