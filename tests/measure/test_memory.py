from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bnas.measure import memory
from bnas.measure.backends import BACKENDS
from bnas.measure.hardware import HwConfig
from bnas.measure.memory import Memory, MemoryGauge, peak_memory
from bnas.plain import from_plain, to_plain
from bnas.quantize import NncfPTQ

MIB = 2**20
HW = HwConfig(precision="f32", threads=1)

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


def save(module: nn.Module, example: torch.Tensor, folder: Path) -> Path:
    backend = BACKENDS[HW.backend]
    assert backend.save is not None
    folder.mkdir()
    return backend.save(backend.deploy(HW, NncfPTQ())(module.eval(), example), folder)


@pytest.fixture(scope="module")
def gauge() -> Iterator[MemoryGauge]:
    with MemoryGauge(HW) as gauge:
        yield gauge


def test_the_memory_of_weights(gauge: MemoryGauge, tmp_path: Path) -> None:
    """A product with 64 MiB of weights, and the same one with 4 MiB."""
    large, small = (
        gauge.peak(save(nn.Linear(width, width, bias=False), torch.zeros(1, width), tmp_path / str(width)))
        for width in (4096, 1024)
    )
    assert large.why_not == small.why_not == ""
    assert large.peak_bytes is not None
    assert small.peak_bytes is not None
    # The runtime may keep them once as they are in the file and once in its own order, not often.
    assert 60 * MIB <= large.peak_bytes <= 4 * 64 * MIB
    assert large.peak_bytes - small.peak_bytes >= 50 * MIB
    assert large.runtime_bytes is not None
    assert large.runtime_bytes > 20 * MIB


def test_the_memory_of_activations(gauge: MemoryGauge, tmp_path: Path) -> None:
    """Next to no weights, but 16 channels of 1024 × 1024 numbers: 64 MiB."""
    module = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1))
    found = gauge.peak(save(module, torch.zeros(1, 1, 1024, 1024), tmp_path / "x"))
    assert found.peak_bytes is not None
    assert 60 * MIB <= found.peak_bytes <= 8 * 64 * MIB


def test_a_network_after_a_large_one_does_not_inherit_its_peak(gauge: MemoryGauge, tmp_path: Path) -> None:
    large = save(nn.Linear(4096, 4096, bias=False), torch.zeros(1, 4096), tmp_path / "large")
    small = save(nn.Linear(64, 64), torch.zeros(1, 64), tmp_path / "small")
    before, _, after = gauge.peak(small), gauge.peak(large), gauge.peak(small)
    assert before.peak_bytes is not None
    assert after.peak_bytes is not None
    assert after.peak_bytes < 20 * MIB
    assert abs(after.peak_bytes - before.peak_bytes) < 10 * MIB


def test_an_artefact_that_cannot_be_loaded_is_said_and_the_next_one_goes(
    gauge: MemoryGauge, tmp_path: Path
) -> None:
    missing = gauge.peak(tmp_path / "missing.xml")
    assert missing.peak_bytes is None
    assert "missing.xml" in missing.why_not
    small = save(nn.Linear(64, 64), torch.zeros(1, 64), tmp_path / "small")
    assert gauge.peak(small).peak_bytes is not None


def test_the_process_that_is_forked_has_one_thread(gauge: MemoryGauge, tmp_path: Path) -> None:
    """A lock that another thread holds at a fork stays locked in the child for ever."""
    assert gauge.peak(save(nn.Linear(8, 8), torch.zeros(1, 8), tmp_path / "x")).why_not == ""
    assert gauge._process is not None
    assert len(list(Path(f"/proc/{gauge._process.pid}/task").iterdir())) == 1


def test_a_process_that_ends_is_said_and_begun_again(tmp_path: Path) -> None:
    small = save(nn.Linear(64, 64), torch.zeros(1, 64), tmp_path / "small")
    with MemoryGauge(HW) as gauge:
        assert gauge.peak(small).why_not == ""
        assert gauge._process is not None
        gauge._process.kill()
        gauge._process.wait()
        lost = gauge.peak(small)
        assert lost.peak_bytes is None
        assert "the process that runs it failed" in lost.why_not
        assert gauge.peak(small).why_not == ""


def test_a_backend_without_files_cannot_be_gauged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "openvino", replace(BACKENDS["openvino"], save=None))
    found = peak_memory(Path("x.xml"), HW)
    assert found.peak_bytes is None
    assert "openvino has no file" in found.why_not


def test_a_process_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PATIENCE_S", 0.0)
    found = peak_memory(tmp_path / "x.xml", HW)
    assert found.peak_bytes is None
    assert "no answer after 0 s" in found.why_not


def test_memory_is_plain_data() -> None:
    found = Memory(peak_bytes=5, runtime_bytes=7)
    assert from_plain(Memory, to_plain(found)) == found
