"""What can be tested without a device: the order of launches and waits, and what is said. The conformance suite
runs the backend itself where there is a device."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from small_networks import patterns, small_net

from bnas.errors import MeasureError
from bnas.measure import HwConfig
from bnas.measure.backends import torch_cuda

EXAMPLE = torch.zeros(1, 3, 16, 16)
HW = HwConfig(backend="torch_cuda", precision="f32", threads=1)


def test_no_device_is_said() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(
        MeasureError, match=r"torch_cuda needs a CUDA device: this torch .* is built .* hw\.backend"
    ):
        torch_cuda.prepare(small_net(), HW, EXAMPLE)


def test_a_call_ends_when_all_its_inferences_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, with streams and events that only tell."""
    told: list[Any] = []

    class Event:
        def record(self, stream: int) -> None:
            told.append(("record", stream))

        def synchronize(self) -> None:
            told.append("wait")

    streams = iter(range(10))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: next(streams))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext(told.append(("run", stream))))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    net, images = small_net(), patterns(5)
    runner = torch_cuda.CudaRunner(net, patterns(2), streams=2, per_stream=3)
    assert runner.inferences == 6
    told.clear()
    runner()
    assert told == [("run", 0), ("run", 1)] * 3 + [("record", 0), ("record", 1), "wait", "wait"]
    with torch.no_grad():
        torch.testing.assert_close(runner.predict(images), net(images), atol=1e-4, rtol=1e-4)
