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
    arrays["fc.param_quantizers.weight:out"][1] += 0.5
    assert aimet.differing(encoded, arrays) == (1, 3)


def test_differences_are_relative() -> None:
    assert aimet.relative(np.array([1.0, 4.0]), np.array([1.0, 4.1])) == pytest.approx(0.1 / 4.1)
    assert aimet.relative(np.zeros(2), np.zeros(3)) == float("inf")


@pytest.mark.skipif("BNAS_AIMET_PYTHON" not in os.environ, reason="needs an environment with AIMET")
def test_aimet_itself_computes_the_same() -> None:
    figures, bars = aimet.compared(os.environ["BNAS_AIMET_PYTHON"], quick=True)
    assert not [name for name, bar in bars.items() if not bar.holds], json.dumps(figures)
