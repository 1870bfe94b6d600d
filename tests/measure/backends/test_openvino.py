from __future__ import annotations

import os
from pathlib import Path
from statistics import median

import pytest
import torch
from small_networks import patterns, small_net
from torch import Tensor, nn

from bnas.errors import MeasureError
from bnas.export import OpenVinoIR, export
from bnas.measure import HwConfig, MeasureConfig, Runner, prepare, throughput_per_s, time_interleaved
from bnas.measure.backends import openvino
from bnas.quantize import NncfPTQ, quantize

EXAMPLE = torch.zeros(1, 3, 16, 16)
F32 = HwConfig(precision="f32", threads=1)


class Convolutions(nn.Module):
    """The same convolution `count` times: `count` times the work."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(64, 64, 3, padding=1) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.parametrize("batch", [1, 4])
def test_predictions_are_those_of_the_module(batch: int) -> None:
    net, images = small_net(), patterns(7)
    runner = prepare(net, HwConfig(precision="f32", threads=1, batch=batch), EXAMPLE)
    runner()
    with torch.no_grad():
        torch.testing.assert_close(runner.predict(images), net(images), atol=1e-4, rtol=1e-4)
    runner()


def test_an_artefact_is_run_at_the_batch_of_the_hardware(tmp_path: Path) -> None:
    net, images = small_net(), patterns(5)
    path = Path(export(net, OpenVinoIR(batch=1), tmp_path / "net.xml", EXAMPLE).path)
    for batch in (1, 2):
        runner = prepare(path, HwConfig(precision="f32", threads=1, batch=batch))
        with torch.no_grad():
            torch.testing.assert_close(runner.predict(images), net(images), atol=1e-4, rtol=1e-4)


def test_f32_is_f32_and_bf16_is_not() -> None:
    """A CPU with BF16 would take it for FP32 networks; 8 bits of mantissa are told from 24 by their error."""
    net, images = Convolutions(2).eval(), torch.randn(2, 64, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = net(images)
    got = prepare(net, F32, images).predict(images)
    assert float((got - wanted).abs().max() / wanted.abs().max()) < 1e-5


def test_a_quantized_network_runs_in_int8() -> None:
    net, images = small_net(), patterns(8)
    quantized = quantize(net, NncfPTQ(samples=8), [images], EXAMPLE)
    got = prepare(quantized, HwConfig(threads=1), EXAMPLE).predict(images)
    with torch.no_grad():
        wanted = net(images)
    error = float((got - wanted).abs().max() / wanted.abs().max())
    assert 1e-4 < error < 0.2


def test_eight_times_the_work_is_slower() -> None:
    example = torch.zeros(1, 64, 24, 24)
    runners = {str(count): prepare(Convolutions(count).eval(), F32, example) for count in (1, 8)}
    config = MeasureConfig(min_rounds=10, max_rounds=40, block_ms=2, warmup_ms=10)
    assert time_interleaved(runners, config)["8"].ratio > 2


def test_throughput_has_the_streams_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnas.measure.hardware.logical_cores", lambda: 8)
    net, images = small_net(), patterns(3)

    def queue(streams: int) -> Runner:
        hw = HwConfig(precision="f32", threads=2, scenario="throughput", streams=streams)
        return prepare(net, hw, EXAMPLE)

    for streams in range(1, min(2, len(os.sched_getaffinity(0))) + 1):
        runner = queue(streams)
        assert runner.inferences == streams * openvino.PER_STREAM
        assert len(runner._queue) == streams * openvino.PER_STREAM_AT_ONCE  # type: ignore[attr-defined]
        runner()
        with torch.no_grad():
            torch.testing.assert_close(runner.predict(images), net(images), atol=1e-4, rtol=1e-4)
    with pytest.raises(
        MeasureError, match=r"hw\.streams: OpenVINO runs [12] inferences at once on 2 threads, not 7"
    ):
        queue(7)


def test_throughput_is_plausible() -> None:
    assert median(throughput_per_s(small_net(), F32, 0.2, EXAMPLE) for _ in range(3)) > 20


def test_what_does_not_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match=r"net\.xml does not exist"):
        prepare(tmp_path / "net.xml", F32)
    (tmp_path / "net.xml").write_text("<net")
    with pytest.raises(MeasureError, match=r"net\.xml cannot be read"):
        prepare(tmp_path / "net.xml", F32)
    with pytest.raises(MeasureError, match="an example input is needed"):
        prepare(small_net(), F32)
    with pytest.raises(MeasureError, match="training mode"):
        prepare(small_net().train(), F32, EXAMPLE)


def test_a_network_with_its_batch_built_in_is_said(tmp_path: Path) -> None:
    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x.mean((2, 3)), torch.ones(1, 2)], 1)

    hw = HwConfig(precision="f32", threads=1, batch=3)
    with pytest.raises(MeasureError, match="cannot take 3 images at once"):
        prepare(One().eval(), hw, EXAMPLE)
