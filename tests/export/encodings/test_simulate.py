"""The simulated network beside the same steps done by hand in NumPy and torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from bnas.errors import ExportError
from bnas.export.encodings import Encoding, simulated
from bnas.export.onnx import to_onnx

SOURCE = Encoding(name="images", scale=(0.02,), offset=(-100,))
WEIGHT = Encoding(name="0.weight", symmetric=True, scale=(0.01, 0.002), offset=(-128, -128), axis=0)
MIDDLE = Encoding(name="/0/Conv_output_0", bits=4, scale=(0.1,), offset=(-5,))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 2, 1), nn.Sigmoid()).eval()


def outputs(net: nn.Module, *encodings: Encoding, half_up: bool = False) -> tuple[np.ndarray, torch.Tensor]:
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    model = simulated(to_onnx(net, x), encodings, half_up=half_up)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"images": x.numpy()})[0], x


def by_hand(net: nn.Module, x: torch.Tensor) -> np.ndarray:
    weight = net[0].weight.detach().numpy()
    rounded = np.stack(
        [np.clip(np.rint(w / s), -128, 127) * s for w, s in zip(weight, WEIGHT.scale, strict=True)]
    )
    given = np.clip(np.rint(x.numpy() / 0.02), -100, 155) * 0.02
    made = (
        np.einsum("nihw,oi->nohw", given, rounded[:, :, 0, 0]) + net[0].bias.detach().numpy()[:, None, None]
    )
    return 1 / (1 + np.exp(-np.clip(np.rint(made / 0.1), -5, 10) * 0.1))


@pytest.mark.parametrize("half_up", [False, True])
def test_input_weights_and_what_is_between_are_on_their_grids(net: nn.Module, half_up: bool) -> None:
    got, x = outputs(net, SOURCE, WEIGHT, MIDDLE, half_up=half_up)
    np.testing.assert_allclose(got, by_hand(net, x), atol=1e-6)
    assert len(np.unique(got)) <= 16


def test_the_output_of_the_network_can_be_quantized(net: nn.Module) -> None:
    last = to_onnx(net, torch.rand(1, 3, 5, 5)).graph.output[0].name
    got, x = outputs(net, Encoding(name=last, scale=(1 / 8,), offset=(0,)))
    np.testing.assert_array_equal(got, np.rint(net(x).detach().numpy() * 8) / 8)


def test_float16(net: nn.Module) -> None:
    half = Encoding(name="images", bits=16, form="float")
    got, x = outputs(net, half)
    np.testing.assert_allclose(got, net(x.half().float()).detach().numpy(), rtol=1e-5)
    assert not np.allclose(got, net(x).detach().numpy(), rtol=1e-7, atol=0)


def test_32_bits_change_nothing_and_31_round(net: nn.Module) -> None:
    coarse = Encoding(name="0.bias", bits=32, symmetric=True, scale=(0.5,), offset=(-(2**31),))
    (whole, x), (rounded, _) = (
        outputs(net, coarse),
        outputs(net, replace(coarse, bits=31, offset=(-(2**30),))),
    )
    np.testing.assert_allclose(whole, net(x).detach().numpy(), atol=1e-6)
    assert np.abs(rounded - whole).max() > 1e-3


def test_a_tensor_that_is_not_there(net: nn.Module) -> None:
    with pytest.raises(ExportError, match="the network has no tensor 'other'"):
        outputs(net, replace(SOURCE, name="other"))
    with pytest.raises(ExportError, match="is no parameter and has an encoding for each channel"):
        outputs(net, replace(MIDDLE, scale=(0.1, 0.1), offset=(-5, -5), axis=1))


@pytest.mark.parametrize("axis", [1, 4, -5])
def test_scales_that_do_not_fit_the_parameter(net: nn.Module, axis: int) -> None:
    with pytest.raises(
        ExportError, match=rf"'0\.weight' has 2 scales along axis {axis}, the tensor is 2×3×1×1"
    ):
        outputs(net, replace(WEIGHT, axis=axis))
