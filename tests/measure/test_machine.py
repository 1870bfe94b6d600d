from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bnas.measure import machine
from bnas.measure.machine import Activity, Process, Watch
from bnas.plain import from_plain, to_plain

CPUFREQ = "devices/system/cpu/cpu1/cpufreq"


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders proc and sys of a machine with two CPUs; 100 jiffies are a second."""
    monkeypatch.setattr(machine, "_JIFFY_S", 0.01)
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(clock))
    own = iter([1.0, 5.0])
    monkeypatch.setattr(machine.time, "process_time", lambda: next(own))
    stat(tmp_path, "cpu  100 0 0 0 0 0 0 10 0 0", "cpu1 50 0 0 0 0 0 0 5 0 0")
    write(tmp_path, "proc/loadavg", "1.50 1.20 1.00 2/100 123\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def stat(root: Path, *lines: str) -> None:
    write(root, "proc/stat", "\n".join((*lines, "ctxt 5", "")))


def process(root: Path, pid: int, name: str, jiffies: int) -> None:
    write(
        root, f"proc/{pid}/stat", f"{pid} ({name}) R 1 1 1 0 -1 0 0 0 0 0 {jiffies} 0 0 0 20 0 1 0 {pid}0\n"
    )


def watch(root: Path) -> Watch:
    return Watch((1,), proc=root / "proc", sys=root / "sys")


def test_other_work_is_what_was_busy_without_this_process(system: Path) -> None:
    begun = watch(system)
    # 10 s: 11 CPU seconds user, 1 nice, 2 system, 1 for interrupts; idle and waiting count for nothing
    stat(system, "cpu  1200 100 200 900 50 60 40 60 0 0", "cpu1 900 0 0 0 0 0 0 35 0 0")
    found = begun.activity()
    assert found.seconds == 10
    assert found.other_cpus == pytest.approx((11 + 1 + 2 + 1 - 4) / 10)
    assert found.steal_percent == pytest.approx(3.0)  # 0.3 s of CPU 1's 10 s; the other CPU was not used
    assert found.load == 1.5


def test_other_processes_are_named_also_when_they_have_ended(system: Path) -> None:
    process(system, 7, "backup", 1000)
    process(system, 8, "a (strange) name", 0)
    process(system, 9, "asleep", 500)
    process(system, os.getpid(), "itself", 0)
    begun = watch(system)
    process(system, 7, "backup", 1200)
    process(system, 8, "a (strange) name", 500)
    process(system, 9, "renamed", 500)
    process(system, os.getpid(), "itself", 900)
    begun.glance()
    (system / "proc/7/stat").unlink()
    assert begun.activity().busiest == (
        Process(name="a (strange) name", pid=8, cpus=0.5),
        Process(name="backup", pid=7, cpus=0.2),
    )


def test_frequency_governor_turbo_and_quota(system: Path) -> None:
    write(system, f"sys/{CPUFREQ}/scaling_cur_freq", "3000000\n")
    write(system, f"sys/{CPUFREQ}/scaling_governor", "powersave\n")
    write(system, "sys/devices/system/cpu/intel_pstate/no_turbo", "0\n")
    write(system, "sys/fs/cgroup/cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 4\n")
    begun = watch(system)
    write(system, f"sys/{CPUFREQ}/scaling_cur_freq", "2400000\n")
    write(system, "sys/fs/cgroup/cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 6\n")
    found = begun.activity()
    assert found.mhz == (2400, 3000)
    assert (found.governor, found.turbo, found.throttled) == ("powersave", True, 2)


@pytest.mark.parametrize(("text", "turbo"), [("0\n", False), ("1\n", True)])
def test_turbo_of_other_makers(system: Path, text: str, turbo: bool) -> None:
    write(system, "sys/devices/system/cpu/cpufreq/boost", text)
    assert watch(system).activity().turbo is turbo


def test_what_cannot_be_read_is_none_and_not_0(system: Path) -> None:
    found = Watch((1,), proc=system / "nowhere", sys=system / "nowhere").activity()
    assert found == Activity(seconds=10.0)
    assert found.other_cpus is None
    assert found.steal_percent is None


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="reads /proc")
def test_a_busy_process_of_this_machine_is_found() -> None:
    begun = Watch(sorted(os.sched_getaffinity(0)))
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            while int(Path(f"/proc/{busy.pid}/stat").read_text().split()[13]) < 2:
                time.sleep(0.05)
            time.sleep(0.2)
            found = begun.activity()
        finally:
            busy.kill()
    assert found.other_cpus is not None
    assert found.other_cpus > 0
    assert any(pid == busy.pid and spent > 0 for (pid, _), (_, spent) in begun._latest.items())


def test_activity_is_plain_data() -> None:
    found = Activity(
        seconds=2.0, other_cpus=0.5, busiest=(Process(name="x", pid=3, cpus=0.4),), mhz=(1000.0, 2000.0)
    )
    assert from_plain(Activity, to_plain(found)) == found
