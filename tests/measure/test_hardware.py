from __future__ import annotations

import os
from pathlib import Path

import pytest

from bnas.errors import ConfigError, MeasureError
from bnas.measure import Hardware, HwConfig, detect, hardware, prepare
from bnas.plain import from_plain, to_plain

INTEL = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu avx2 fma avx512f avx512_vnni
power management:

processor\t: 1
model name\t: Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu avx2 fma avx512f avx512_vnni
power management:

processor\t: 2
model name\t: Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz
physical id\t: 1
core id\t\t: 0
flags\t\t: fpu avx2 fma avx512f avx512_vnni
"""


def test_this_machine_is_described() -> None:
    found = detect(HwConfig())
    assert found.cpu
    assert 1 <= found.physical_cores <= found.logical_cores <= (os.cpu_count() or 1)
    assert found.memory_gib >= 1
    assert found.runtime == "openvino"
    assert found.runtime_version[:4].isdigit()
    assert from_plain(Hardware, to_plain(found)) == found


def test_cores_and_flags_are_read_from_cpuinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: INTEL)
    monkeypatch.setattr(hardware, "logical_cores", lambda: 3)
    found = detect(HwConfig())
    assert found.cpu == "Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz"
    assert (found.physical_cores, found.logical_cores) == (2, 3)  # two hyper-threads share a core
    assert found.flags == ("avx2", "fma", "avx512f", "avx512_vnni")
    assert found.notes == ()
    assert HwConfig().thread_count == 2
    assert HwConfig(threads=3).thread_count == 3


def test_a_cpu_without_vnni_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: INTEL.replace(" avx512_vnni", ""))
    assert "no VNNI" in detect(HwConfig()).notes[0]


def test_a_machine_without_cpuinfo_is_still_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: "")
    found = detect(HwConfig())
    assert found.cpu
    assert found.flags == ()
    assert found.physical_cores == found.logical_cores


def test_no_more_cores_than_the_affinity_and_the_quota_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3, 4, 5}, raising=False)

    def quota(text: str) -> int:
        monkeypatch.setattr(Path, "read_text", lambda self: text)
        return hardware.logical_cores()

    assert quota("max 100000") == 6
    assert quota("250000 100000") == 3
    assert quota("50000 100000") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threads": 100_000}, r"hw\.threads: expected 0 \(all physical cores\) to \d+.*got 100000"),
        ({"threads": -1}, r"hw\.threads: expected 0"),
        ({"batch": 0}, r"hw\.batch: expected 1 or more, got 0"),
        ({"backend": "opnvino"}, r"hw\.backend: no such backend 'opnvino'; did you mean 'openvino'\?"),
        ({"precision": "int4"}, r"hw\.precision: expected 'int8' or 'f32' or 'bf16', got 'int4'"),
        ({"name": "../cpu"}, r"hw\.name: expected the name of a folder"),
    ],
)
def test_options_are_checked(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_plain(HwConfig, options, "hw")


def test_a_backend_that_has_gone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    hw = HwConfig()
    monkeypatch.delitem(hardware.BACKENDS, "openvino")
    monkeypatch.setitem(hardware.BACKENDS, "abacus", None)
    with pytest.raises(MeasureError, match=r"hw\.backend: no such backend 'openvino'; known: abacus"):
        prepare(Path("net.xml"), hw)
