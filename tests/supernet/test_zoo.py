"""Oracles 1–6 and 10 on real architectures: every promise of the builder, on each."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import oracles
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

from bnas.graph import ChannelGraph, trace
from bnas.models import ModelConfig, load_model
from bnas.space import SearchSpace, SpaceRules, SubnetConfig, derive_space
from bnas.supernet import Supernet

# The smallest inputs on which each architecture keeps all its paths; 2 images, so that no batch axis is 1.
CLASSIFIERS = {
    "tiny_resnet": 32,
    "resnet50": 64,
    "resnext50_32x4d": 64,
    "mobilenet_v3_large": 64,
    "efficientnet_b0": 64,
    "densenet121": 64,
    "googlenet": 64,
    "vgg11_bn": 32,
    "regnet_y_400mf": 64,
}
BODIES = {"retinanet_resnet50_fpn": 128, "ssd300_vgg16": 300}
# Attention, layer norms over channels, layer scale, window partitions: torchvision's own classes, made small.
TOKENS: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 48, num_classes=10),
    "swin": lambda: torchvision.models.SwinTransformer([4, 4], 32, [2, 2], [2, 4], [4, 4], num_classes=10),
    "swin_v2": lambda: torchvision.models.SwinTransformer(
        [4, 4], 32, [2, 2], [2, 4], [4, 4], num_classes=10, block=SwinTransformerBlockV2,
        downsample_layer=PatchMergingV2,
    ),
    "convnext": lambda: torchvision.models.ConvNeXt(
        [CNBlockConfig(32, 64, 2), CNBlockConfig(64, None, 2)], layer_scale=0.5, num_classes=10
    ),
    "maxvit": lambda: torchvision.models.MaxVit((64, 64), 32, 4, [32, 64], [1, 2], 16, 0.0, num_classes=10),
}  # fmt: skip
# How many blocks add their input to their output; by hand from the architectures.
SKIPPABLE = {
    "tiny_resnet": 6,
    "resnet50": 12,
    "resnext50_32x4d": 12,
    "mobilenet_v3_large": 10,
    "efficientnet_b0": 9,
    "densenet121": 0,
    "googlenet": 0,
    "vgg11_bn": 0,
    "regnet_y_400mf": 12,
    "retinanet_resnet50_fpn": 12,
    "ssd300_vgg16": 0,
}


def make(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    if name in TOKENS:
        model, size, channels = TOKENS[name](), 64 if name == "maxvit" else 32, 3
        for module in model.modules():  # heads start at zero, and prove nothing
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
    elif name in BODIES:
        model = torchvision.models.detection.__dict__[name](weights=None, weights_backbone=None).backbone
        size, channels = BODIES[name], 3
        for module in model.modules():  # no batch norm in SSD: fresh weights would fade to nothing
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    else:
        size, channels = CLASSIFIERS[name], 1 if name == "tiny_resnet" else 3
        model, _ = load_model(
            ModelConfig(name=name, weights="none"), num_classes=10, shape=(channels, size, size)
        )
    return oracles.randomize_norms(model).eval(), (
        torch.randn(1 if size == 300 else 2, channels, size, size),
    )


class Built:
    """One architecture, made elastic once for all its tests."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.original, self.inputs = make(name)
        self.graph: ChannelGraph = trace(self.original, self.inputs)
        self.space: SearchSpace = derive_space(self.graph, SpaceRules(width_ratios=(0.25, 0.5, 0.75, 1.0)))
        self.supernet = Supernet(copy.deepcopy(self.original), self.graph, self.space)

    def configs(self) -> list[SubnetConfig]:
        rng = np.random.default_rng(0)
        return [self.space.smallest, self.space.sample(rng)]


@pytest.fixture(scope="module", params=[*CLASSIFIERS, *BODIES, *TOKENS])
def built(request: pytest.FixtureRequest) -> Built:
    return Built(request.param)


def test_largest_is_the_pretrained_model(built: Built) -> None:
    oracles.check_largest(built.original, built.supernet, built.inputs)


def test_extracted_equals_unread_equals_activated(built: Built) -> None:
    for config in built.configs():
        oracles.check_extraction(built.original, built.supernet, config, built.inputs)


def test_inactive_weights_get_no_gradient(built: Built) -> None:
    oracles.check_gradients(built.supernet, built.configs()[1], built.inputs)


def test_costs_from_facts_are_those_counted(built: Built) -> None:
    for config in (built.space.largest, *built.configs()):
        oracles.check_costs(built.supernet, config, built.inputs)


def test_plain_data_and_back(built: Built) -> None:
    oracles.check_round_trip(ChannelGraph, built.graph)
    oracles.check_round_trip(SearchSpace, built.space)
    oracles.check_round_trip(SubnetConfig, built.space.smallest)


def test_skippable_blocks(built: Built) -> None:
    if built.name in SKIPPABLE:
        assert sum(block.kind == "residual" for block in built.graph.blocks) == SKIPPABLE[built.name]
    else:
        assert built.graph.blocks


def test_almost_all_channels_are_free(built: Built) -> None:
    """At least 95 % of the convolutions' output channels, outputs of the model aside."""
    outputs = {g.name for g in built.graph.groups if any("output of the model" in why for why in g.why)}
    free = total = 0
    for layer in built.graph.layers:
        if layer.kind == "conv2d":
            for segment in layer.writes:
                if segment.group not in outputs:
                    total += segment.size
                    free += (
                        segment.size if segment.group and built.graph.group_by_name[segment.group].free else 0
                    )
    assert free >= 0.95 * total or built.name == "ssd300_vgg16"


def test_reordering_keeps_the_largest(built: Built) -> None:
    """Last of the module: it changes the weights."""
    oracles.check_reordering(built.supernet, built.inputs)
