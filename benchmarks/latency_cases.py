"""What the latency benchmark times: networks, spaces and hardware, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

import bnas
from bnas.graph import ChannelGraph, at_resolutions
from bnas.measure import HwConfig
from bnas.space import LayerCost, SearchSpace, SpaceRules, SubnetConfig, layer_costs


@dataclass(frozen=True, kw_only=True)
class Case:
    """A super-network at a resolution on hardware.

    `hard`: multiply-accumulates alone mislead there. `rounds`: how often a subnet is timed in turn with the
    reference, at most; more where errors below one per cent are to be told apart, fewer where a round is long.
    """

    model: str
    size: int
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    rules: dict[str, Any] = field(default_factory=dict, hash=False)
    hard: bool = True
    rounds: int = 30

    @cached_property
    def hw(self) -> HwConfig:
        """OpenVINO in INT8 on one thread, but for `options`."""
        return HwConfig(**{"threads": 1, **self.options})

    @cached_property
    def family(self) -> Family:
        """The super-network, made when it is first asked for."""
        return Family(self)


class Family:
    """The super-network of a case, with fresh weights: how fast it is does not depend on them."""

    def __init__(self, case: Case) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = _MODELS[case.model]().eval()
            self.example: Tensor = torch.randn(1, 3, case.size, case.size)
        graph: ChannelGraph = bnas.trace(model, (self.example,))
        if sizes := case.rules.get("resolutions"):
            graph = at_resolutions(model, (self.example,), graph, sizes)
        self.graph = graph
        self.space: SearchSpace = bnas.derive_space(graph, SpaceRules(**case.rules))
        self._elastic = bnas.Supernet(model, graph, self.space)

    def make(self, subnet: SubnetConfig) -> nn.Module:
        return bnas.extract_subnet(self._elastic, subnet)

    def costs(self, subnet: SubnetConfig) -> tuple[LayerCost, ...]:
        return layer_costs(self.graph, self.space, subnet)


class Heads(nn.Module):
    """RetinaNet from the image to its heads' outputs: what comes after has no weights and depends on them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torchvision.models.detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        out = self.net.head(list(self.net.backbone(images).values()))
        return out["cls_logits"], out["bbox_regression"]


_MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet50": torchvision.models.resnet50,
    "mobilenet_v3_large": torchvision.models.mobilenet_v3_large,
    "efficientnet_b0": torchvision.models.efficientnet_b0,
    "retinanet": Heads,
}
_KERNELS = {"dims": ("resolution", "depth", "kernel", "width"), "resolutions": (128, 160, 192, 224)}
_THROUGHPUT = {"scenario": "throughput", "threads": 2}

CASES = {
    "resnet50_224": Case(model="resnet50", size=224, hard=False, rounds=50),
    "resnet50_64": Case(model="resnet50", size=64),
    "mobilenet_v3_large": Case(model="mobilenet_v3_large", size=224),
    "efficientnet_b0": Case(model="efficientnet_b0", size=224),
    "resolution_kernel": Case(model="mobilenet_v3_large", size=224, rules=_KERNELS),
    "two_threads": Case(model="resnet50", size=64, options={"threads": 2}, rounds=60),
    "fp32": Case(model="resnet50", size=64, options={"precision": "f32"}),
    "throughput": Case(model="mobilenet_v3_large", size=224, options=_THROUGHPUT, rounds=60),
    "batch_8": Case(model="resnet50", size=64, options={"batch": 8}),
    "retinanet": Case(model="retinanet", size=320, rounds=40),
}
