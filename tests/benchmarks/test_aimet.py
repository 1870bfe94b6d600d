"""The comparison with AIMET as far as it goes without AIMET; with it where BNAS_AIMET_PYTHON names its python."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import aimet
from benchmarks.aimet_networks import NETWORKS, seeded, with_state
from bnas.export.encodings import Encoding
from bnas.quantize import Equalize, equalize


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_is_built_from_its_state(name: str) -> None:
    module, x = seeded(name), torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    folded = equalize(module, x, Equalize(scale=False, absorb=False)).module
    again = with_state(NETWORKS[name](), folded.state_dict())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in again.modules())
    torch.testing.assert_close(again(x), module(x), rtol=1e-4, atol=1e-5)


def test_both_simulations_of_ours_agree(tmp_path: Path) -> None:
    """That of the ONNX files and that of the torch module, in which halves are rounded otherwise."""
    case = next(case for case in aimet.cases(quick=True) if case.name == "depthwise")
    encoded, jobs = aimet.jobs(tmp_path, case)
    assert [job["by"] for job in jobs] == ["onnx", "onnx", "onnx", "torch"]
    (onnx,) = aimet.by_onnxruntime(jobs[0]["stem"], case.images)
    own = aimet.by_torch(encoded, "depthwise", case.images)
    (whole,) = aimet.by_onnxruntime(jobs[0]["stem"], case.images, quantized=False)
    step = encoded.activations[-1].scale[0]
    assert np.abs(onnx - own).max() <= 1.01 * step
    assert np.mean(onnx != own) < 0.2
    assert aimet.relative(onnx, whole) > 1e-3


def test_numbers_that_were_quantized_otherwise_are_counted() -> None:
    own = Encoding(name="fc.weight", symmetric=True, scale=(0.5,), offset=(-128,))
    x = np.array([0.3, 1.2, -7.1], np.float32)
    arrays = {"fc.param_quantizers.weight:in": x, "fc.param_quantizers.weight:out": own.fake_quantized(x)}
    encoded = aimet.Encoded(
        network=None, state={}, activations=(), parameters=(own,), moved={}, modules={}, images=1, options={}
    )
    assert aimet.differing(encoded, arrays) == (0, 3)
    arrays["fc.param_quantizers.weight:out"] *= np.float32(
        1 + 2**-23
    )  # a last digit, which 0.6.1 cannot always tell
    assert aimet.differing(encoded, arrays) == (0, 3)
    arrays["fc.param_quantizers.weight:out"][1] += 0.5
    assert aimet.differing(encoded, arrays) == (1, 3)
    assert aimet.differing(encoded, {"output0": x}) == (float("inf"), 0)  # no bar holds with nothing compared


def test_settled_norms_are_those_of_the_images() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    x = 100 * torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    y = aimet.settled(net, x)(x)
    assert not net[1].training
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(y.std((0, 2, 3)), torch.ones(4), atol=0.01, rtol=0)


def test_differences_are_relative() -> None:
    assert aimet.relative(np.array([1.0, 4.0]), np.array([1.0, 4.1])) == pytest.approx(0.1 / 4.1)
    assert aimet.relative(np.array([1.0, 4.0]), np.array([1.0, 5.0]), np.mean) == pytest.approx(0.1)
    assert aimet.relative(np.zeros(2), np.zeros(3)) == float("inf")
    assert aimet.relative(np.zeros(2), np.array([0, np.nan])) == float("inf")


def test_the_output_that_differs_most_counts() -> None:
    one, two = np.array([1.0, 4.0]), np.array([2.0])
    assert aimet.furthest([one, two], {"output0": one, "output1": 2 * two, "other": one}) == 0.5
    assert aimet.furthest([one, two], {"output0": one, "output1": np.array([np.nan])}) == float("inf")
    assert aimet.furthest([one], {"output0": one, "output1": two}) == float("inf")


def test_each_kind_of_convolution_has_a_case_per_channel() -> None:
    found = [case.module for case in aimet.cases(quick=True) if case.config.per_channel]
    layers = [layer for module in found for layer in module.modules()]
    assert any(isinstance(layer, nn.ConvTranspose2d) for layer in layers)
    assert any(isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1 for layer in layers)


@pytest.mark.skipif("BNAS_AIMET_PYTHON" not in os.environ, reason="needs an environment with AIMET")
def test_aimet_itself_computes_the_same() -> None:
    figures, bars = aimet.compared(os.environ["BNAS_AIMET_PYTHON"], quick=True)
    assert not [name for name, bar in bars.items() if not bar.holds], json.dumps(figures)
