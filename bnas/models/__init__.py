"""The networks to start from."""

from __future__ import annotations

from bnas.models.family import ModelConfig, ModelFamily
from bnas.models.load import FAMILIES, load_model, weights_for
from bnas.models.tiny_resnet import TinyResNet
from bnas.models.weights import load_weights

__all__ = [
    "FAMILIES",
    "ModelConfig",
    "ModelFamily",
    "TinyResNet",
    "load_model",
    "load_weights",
    "weights_for",
]
