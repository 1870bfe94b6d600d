from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bnas.export.openvino_runtime import compile_network
from bnas.quantize import NncfPTQ, nncf_ptq, quantize
from bnas.quantize.ranges import begin_at_zero

EXAMPLE = torch.zeros(1, 3, 16, 16)


class Separable(nn.Module):
    """Depthwise behind an activation; the first two channels are always zero where `dead`, if it makes them so."""

    def __init__(self, activation: nn.Module, *, dead: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 1),
            activation,
            nn.Conv2d(32, 32, 3, padding=1, groups=32),
            nn.ReLU(),
            nn.Conv2d(32, 8, 1),
        )
        self.body[0].bias.data.fill_(1.0)
        if dead:
            self.body[0].bias.data[:2] = -1e3

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mean((2, 3))


def images(count: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 3, 16, 16, generator=generator) for _ in range(count)]


def quantized(module: nn.Module) -> Any:
    return quantize(module.eval(), NncfPTQ(bias_correction="none"), images(), EXAMPLE).model


def before_depthwise(model: Any) -> Any:
    """The quantizer that a depthwise convolution reads."""
    depthwise = next(node for node in model.get_ops() if node.get_type_name() == "GroupConvolution")
    return depthwise.input_value(0).get_node()


def lows(model: Any) -> np.ndarray[Any, Any]:
    node = before_depthwise(model)
    assert (node.input_value(1).get_node().data == node.input_value(3).get_node().data).all()
    return np.asarray(node.input_value(1).get_node().data).ravel()


def kernels(model: Any) -> list[str]:
    """What runs the convolutions."""
    runtime = compile_network(model, threads=1).get_runtime_model()
    told = [node.get_rt_info() for node in runtime.get_ordered_ops()]
    return [str(own["primitiveType"].value) for own in told if own["layerType"].value == "Convolution"]


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid])
def test_what_is_never_negative_begins_at_zero(activation: type[nn.Module]) -> None:
    found = lows(quantized(Separable(activation())))
    assert found.shape == (32,)
    assert (found == 0).all()


def test_channels_that_are_always_zero_cost_no_other_kernel_and_change_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = quantized(Separable(nn.ReLU()))
    alive = quantized(Separable(nn.ReLU(), dead=False))
    monkeypatch.setattr(nncf_ptq, "begin_at_zero", lambda model: 0)
    as_nncf_left_it = quantized(Separable(nn.ReLU()))
    assert (lows(as_nncf_left_it)[:2] < 0).all()
    assert (lows(as_nncf_left_it)[2:] == 0).all()
    assert len(kernels(model)) == 3
    assert kernels(model) == kernels(alive)
    for image in images(8):
        own, other = (compile_network(one, threads=1)([image.numpy()])[0] for one in (model, as_nncf_left_it))
        assert np.abs(own - other).max() <= 1e-5 * np.abs(other).max()


def test_what_can_be_negative_keeps_its_range() -> None:
    module = Separable(nn.Hardswish(), dead=False)
    assert lows(quantized(module)).min() < -0.1
    model = quantized(Separable(nn.Identity(), dead=False))
    assert lows(model).min() < -0.1
    assert begin_at_zero(model) == 0


def test_it_says_how_many_and_does_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nncf_ptq, "begin_at_zero", lambda model: 0)
    model = quantized(Separable(nn.ReLU()))
    assert begin_at_zero(model) == 1
    assert begin_at_zero(model) == 0
