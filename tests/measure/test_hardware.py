from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from bnas import cpu
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
    monkeypatch.setattr(cpu, "cpuinfo", lambda: INTEL)
    monkeypatch.setattr(hardware, "logical_cores", lambda: 3)
    found = detect(HwConfig())
    assert found.cpu == "Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz"
    assert (found.physical_cores, found.logical_cores) == (2, 3)  # two hyper-threads share a core
    assert found.flags == ("avx2", "fma", "avx512f", "avx512_vnni")
    assert found.notes == ()
    assert HwConfig().thread_count == 2
    assert HwConfig(threads=3).thread_count == 3


def test_a_cpu_without_vnni_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "cpuinfo", lambda: INTEL.replace(" avx512_vnni", ""))
    assert "no VNNI" in detect(HwConfig()).notes[0]


def test_a_machine_without_cpuinfo_is_still_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "cpuinfo", lambda: "")
    found = detect(HwConfig())
    assert found.cpu
    assert found.flags == ()
    assert found.physical_cores == found.logical_cores


def test_no_more_cores_than_the_affinity_and_the_quota_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_ALLOWED", (0, 1, 2, 3, 4, 5))

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
        ({"streams": 2}, r"hw\.streams: only with scenario=throughput, got 2"),
        ({"cpus": [4000]}, r"hw\.cpus: this process may use .*, got 4000"),
        (
            {"backend": "torch_eager"},
            r"hw\.precision: the backend torch_eager takes f32 or bf16, got int8; int8 runs in openvino",
        ),
        (
            {"backend": "torch_eager", "precision": "f32", "scenario": "throughput"},
            r"hw\.scenario: the backend torch_eager takes latency, got throughput",
        ),
        ({"where": "worker"}, r"hw\.address: expected that of a worker, http://host:port, got ''"),
        ({"where": "worker", "address": "device:8765"}, r"hw\.address: expected .*got 'device:8765'"),
        ({"batch": 0}, r"hw\.batch: expected 1 or more, got 0"),
        ({"backend": "opnvino"}, r"hw\.backend: no such backend 'opnvino'; did you mean 'openvino'\?"),
        ({"precision": "int4"}, r"hw\.precision: expected 'int8' or 'f32' or 'bf16', got 'int4'"),
        ({"name": "../cpu"}, r"hw\.name: expected the name of a folder"),
    ],
)
def test_options_are_checked(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_plain(HwConfig, options, "hw")


def test_more_threads_than_cpus_are_refused() -> None:
    first = hardware.allowed_cpus()[:1]
    if len(hardware.allowed_cpus()) < 2:
        pytest.skip("one CPU only")
    with pytest.raises(ConfigError, match=r"threads: 2 do not fit on 1 CPUs"):
        HwConfig(threads=2, cpus=first)


def test_another_machine_may_have_more_cores() -> None:
    far = HwConfig(threads=100_000, cpus=(4000,), where="ray")
    assert far.thread_count == 100_000


def test_cpus_to_run_on_are_of_different_cores_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "cpuinfo", lambda: INTEL)
    monkeypatch.setattr(hardware, "_ALLOWED", (0, 1, 2))
    assert HwConfig(threads=2).cpu_list == (0, 2)  # 0 and 1 are two hyper-threads of a core
    assert HwConfig(threads=3).cpu_list == (0, 2, 1)
    assert HwConfig(cpus=(1,)).thread_count == 1
    assert detect(HwConfig(cpus=(1,))).cpus == (1,)


@pytest.mark.skipif(not hardware.allowed_cpus(), reason="this system cannot pin")
def test_networks_run_on_the_cpus_that_were_asked_for() -> None:
    """The system's own account of where this thread, and one that it starts, may run."""
    before = os.sched_getaffinity(0)
    cpu = hardware.allowed_cpus()[-1]
    seen: list[set[int]] = []

    def look() -> None:
        seen.append(os.sched_getaffinity(0))

    def run() -> None:
        with hardware.pinned(HwConfig(cpus=(cpu,))):
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            look()
            assert hardware.allowed_cpus() == tuple(sorted(before))  # what may be asked for stays
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert seen == [{cpu}, {cpu}]
    assert os.sched_getaffinity(0) == before


def test_frequency_and_governor_are_read_where_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hardware, "_cpufreq", lambda cpu, name: tmp_path / f"{cpu}-{name}")
    assert (hardware.frequency_mhz(3), hardware.governor(3)) == (None, None)
    (tmp_path / "3-scaling_cur_freq").write_text("2600123\n")
    (tmp_path / "3-scaling_governor").write_text("powersave\n")
    assert (hardware.frequency_mhz(3), hardware.governor(3)) == (2600, "powersave")


def test_a_backend_that_has_gone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    hw = HwConfig()
    monkeypatch.delitem(hardware.BACKENDS, "openvino")
    monkeypatch.setitem(hardware.BACKENDS, "abacus", None)
    with pytest.raises(MeasureError, match=r"hw\.backend: no such backend 'openvino'; known: abacus"):
        prepare(Path("net.xml"), hw)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be pinned here")
def test_a_thread_that_ends_while_it_is_pinned_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = 2**22 + 1  # above what Linux numbers threads by
    monkeypatch.setattr(hardware, "_threads", lambda: [0, gone])
    with hardware.pinned(HwConfig(threads=1)):
        assert len(os.sched_getaffinity(0)) == 1
