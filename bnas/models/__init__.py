"""The networks to start from."""

from __future__ import annotations

from bnas.models.family import Inputs, ModelConfig, ModelFamily
from bnas.models.load import FAMILIES, find_family, load_model, weights_for
from bnas.models.tiny_resnet import TinyResNet
from bnas.models.weights import load_weights

__all__ = [
    "FAMILIES",
    "Inputs",
    "ModelConfig",
    "ModelFamily",
    "TinyResNet",
    "find_family",
    "load_model",
    "load_weights",
    "weights_for",
]
