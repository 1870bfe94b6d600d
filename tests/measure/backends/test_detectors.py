"""Detectors are timed as they are deployed: scores and regressions, without decoding."""

from __future__ import annotations

import pytest
import torch
from small_detectors import scenes, small_detector

from bnas.detection import deployed
from bnas.measure import HwConfig
from bnas.measure.backends import BACKENDS, prepare
from bnas.quantize import NncfPTQ

EXAMPLE = torch.zeros(1, 3, 64, 64)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch_eager", "torch_compile"])
def test_every_runtime_gives_both_outputs(backend: str) -> None:
    net, images = small_detector("softmax"), scenes(3)
    hw = HwConfig(name="here", backend=backend, precision="f32", threads=1, batch=2)
    runner = prepare(BACKENDS[backend].deploy(hw, NncfPTQ())(net, EXAMPLE), hw, EXAMPLE)
    runner()
    with torch.no_grad():
        wanted = deployed(net(images))
    torch.testing.assert_close(runner.predict_all(images), wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(runner.predict(images), wanted[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_int8_for_timing(backend: str) -> None:
    hw = HwConfig(name="here", backend=backend, threads=1)
    runner = prepare(BACKENDS[backend].deploy(hw, NncfPTQ())(small_detector(), EXAMPLE), hw)
    runner()
    assert [tuple(own.shape) for own in runner.predict_all(scenes(1))] == [(1, 240, 3), (1, 240, 4)]
