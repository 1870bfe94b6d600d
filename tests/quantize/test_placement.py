from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from small_networks import small_net
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small, resnet18

from bnas.export.openvino_runtime import compile_network
from bnas.quantize import NncfPTQ, quantize
from bnas.quantize import placement as placing
from bnas.quantize.placement import Placement

CONFIG = NncfPTQ(bias_correction="none")


def kernels(model: Any) -> Counter[tuple[str, str, str]]:
    """What the runtime really does: each of its operations with its precision and kernel."""
    runtime = compile_network(model, threads=1).get_runtime_model()
    return Counter(
        tuple(
            str(node.get_rt_info()[key].value) for key in ("layerType", "runtimePrecision", "primitiveType")
        )
        for node in runtime.get_ordered_ops()
    )


def by_nncf(module: nn.Module, example: Tensor) -> Any:
    generator = torch.Generator().manual_seed(0)
    return quantize(module, CONFIG, [torch.randn(2, *example.shape[1:], generator=generator)], example).model


class Bottlenecks(nn.Module):
    """A ResNet of plain blocks in two stages, whose widths and depth can be chosen."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(16, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, groups=width if i == 1 else 1, bias=False),
                nn.BatchNorm2d(width), nn.ReLU(),
                nn.Conv2d(width, 16, 1, bias=False), nn.BatchNorm2d(16),
            )
            for i in range(depth)
        )  # fmt: skip
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = torch.relu(x + block(x))
        return self.head(x.mean((2, 3)))


def test_the_next_network_gets_the_kernels_that_nncf_would_give_it() -> None:
    """Other widths and fewer blocks: known from the first network, without NNCF."""
    example = torch.zeros(1, 3, 32, 32)
    placement = Placement(CONFIG)
    placement.quantize(Bottlenecks(32, 4).eval(), example)
    assert placement.by_nncf == 1
    for width, depth in ((24, 4), (48, 3), (32, 4)):
        module = Bottlenecks(width, depth).eval()
        placed = placement.quantize(module, example)
        assert placement.by_nncf == 1
        assert placed.precision == "int8"
        got = kernels(placed.model)
        assert got == kernels(by_nncf(module, example))
        assert any("I8" in kernel or "i8" in kernel for _, _, kernel in got)


def test_each_tensor_has_a_range_of_its_own() -> None:
    """Equal ones on both sides of a sum are less work than calibration leaves."""
    example = torch.zeros(1, 3, 32, 32)
    placement = Placement(CONFIG)
    placement.quantize(Bottlenecks(32, 4).eval(), example)
    model = placement.quantize(Bottlenecks(32, 4).eval(), example).model
    quantizers = [node for node in model.get_ops() if node.get_type_name() == "FakeQuantize"]
    tops = [float(node.input_value(2).get_node().data.max()) for node in quantizers]
    assert len(quantizers) > 12
    assert len(set(tops)) == len(tops)


def test_channels_that_are_never_negative_among_others_get_the_kernels_too() -> None:
    """Behind a hard swish some are, of others the range begins at −3/8; OpenVINO has another kernel for such a tensor."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 32, 1), nn.Hardswish(), nn.Conv2d(32, 32, 3, groups=32), nn.ReLU(), nn.Conv2d(32, 8, 1)
    ).eval()
    module[0].bias.data[::2] = 1e3
    example = torch.zeros(1, 3, 16, 16)
    placement = Placement(CONFIG)
    first = placement.quantize(module, example)
    second = placement.quantize(module, example)
    assert placement.by_nncf == 1
    assert kernels(first.model) == kernels(second.model)
    convolution = next(node for node in second.model.get_ops() if node.get_type_name() == "GroupConvolution")
    lows = convolution.input_value(0).get_node().input_value(1).get_node().data
    assert (lows == 0).any()
    assert (lows < 0).any()


@pytest.mark.parametrize("make", [resnet18, mobilenet_v3_small])
def test_real_networks_are_treated_as_nncf_treats_them(make: Any) -> None:
    """Read again, the placed network says of every tensor what NNCF's says."""
    example = torch.zeros(1, 3, 64, 64)
    module = make(weights=None, num_classes=4).eval()
    placement = Placement(CONFIG)
    first = placement.quantize(module, example)
    second = placement.quantize(module, example)
    assert placement.by_nncf == 1
    told = [
        {place: own.treatment.kind for place, own in placing._reads(quantized.model).items()}
        for quantized in (first, second)
    ]
    assert sorted(told[0].values(), key=str) == sorted(told[1].values(), key=str)
    quantized = [kind for kind in told[1].values() if kind != (None, False)]
    assert len(quantized) > 20


def test_what_it_has_not_seen_goes_through_nncf_and_is_learnt() -> None:
    example = torch.zeros(1, 3, 16, 16)
    other = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sigmoid(), nn.Conv2d(8, 8, 3), nn.Flatten()).eval()
    placement = Placement(CONFIG)
    placement.quantize(small_net(), example)
    placement.quantize(other, example)
    assert placement.by_nncf == 2
    placement.quantize(other, example)
    placement.quantize(small_net(24), example)
    assert placement.by_nncf == 2


def test_what_nncf_treated_in_two_ways_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    example = torch.zeros(1, 3, 16, 16)
    placement = Placement(CONFIG)
    placement.quantize(small_net(), example)
    around, treatment = next(
        (around, own) for around, own in placement._known.items() if own.quantizer is not None
    )
    other = placing.Treatment(None, weights=treatment.weights)
    monkeypatch.setitem(placement._known, around, other)
    placement._learn(by_nncf(small_net(), example))
    placement.quantize(small_net(), example)
    assert placement.by_nncf == 2


def test_weights_are_rounded_as_int8_with_a_scale_for_each_channel() -> None:
    """By torch's own: the weights that the network computes with are near those that it was given."""
    example = torch.zeros(1, 3, 16, 16)
    net = small_net()
    placement = Placement(CONFIG)
    placement.quantize(net, example)
    model = placement.quantize(net, example).model
    linear = next(node for node in model.get_ops() if node.get_type_name() == "MatMul")
    scale = linear.input_value(1).get_node()
    numbers = scale.input_value(0).get_node().input_value(0).get_node()
    assert numbers.get_element_type().get_type_name() == "i8"
    whole = numbers.data.astype("float32") * scale.input_value(1).get_node().data
    wanted = net.head[3].weight.detach().numpy()
    wanted = wanted if whole.shape == wanted.shape else wanted.T
    assert abs(whole - wanted).max() <= abs(wanted).max() / 127 / 2 + 1e-6
    assert (
        abs(numbers.data.astype(int)).max(axis=int(whole.shape != net.head[3].weight.shape) ^ 1).min() == 127
    )
