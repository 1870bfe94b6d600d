"""What else a machine does while networks are timed on it, read from Linux's /proc and /sys.

Each figure is None where the system does not tell it: then nobody knows, which is not the same as 0.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

_JIFFY_S = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
_NOTABLE = 0.02  # of a CPU: processes that take less are not named


@dataclass(frozen=True, kw_only=True)
class Process:
    """Another process, and how many CPUs' worth of time it took (0.5: half of one CPU)."""

    name: str
    pid: int
    cpus: float


@dataclass(frozen=True, kw_only=True)
class Activity:
    """The state of a machine over `seconds`.

    `other_cpus`: how many CPUs' worth of time went to others than this process; `busiest` are the processes
    among them that took the most (only those this process may see: not the host's, from inside a container).
    `steal_percent`: time that the hypervisor took away, of the time of the CPUs that were used.
    `throttled`: how often the container's CPU quota stopped this process. `load` is the average number of
    running processes in the last minute, before. `mhz` are the lowest and the highest frequency seen; `turbo`
    says whether the CPU may go above its base frequency.
    """

    seconds: float
    load: float | None = None
    other_cpus: float | None = None
    busiest: tuple[Process, ...] = ()
    steal_percent: float | None = None
    throttled: int | None = None
    governor: str | None = None
    turbo: bool | None = None
    mhz: tuple[float, float] | None = None


class Watch:
    """`watch = Watch(cpus)`, then `glance()` now and then, at last `activity()`: what happened since it was made.

    `cpus` are the logical CPUs that networks run on, by number. `proc` and `sys` are where the system tells.
    """

    def __init__(self, cpus: Sequence[int], *, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> None:
        self._cpus, self._proc, self._sys = tuple(cpus), proc, sys
        self._began, self._own_s = time.perf_counter(), time.process_time()
        self._load = self._load_of_last_minute()
        self._stat, self._stops = self._cpu_times(), self._stopped()
        self._processes = self._process_times()
        self._latest = dict(self._processes)
        self._mhz: list[float] = []
        self.glance()

    def glance(self) -> None:
        """Note the frequency of this moment, and what other processes have had: they may end before the rest."""
        self._latest |= self._process_times()
        seen = []
        for cpu in self._cpus:
            with suppress(OSError, ValueError):
                seen.append(int(self._cpufreq(cpu, "scaling_cur_freq").read_text()) / 1000)
        if seen:
            self._mhz.append(mean(seen))

    def activity(self) -> Activity:
        """What happened since this was made."""
        self.glance()
        seconds = max(time.perf_counter() - self._began, 1e-9)
        own = time.process_time() - self._own_s
        busy, stolen = self._busy_and_stolen()
        stops = self._stopped()
        first = self._cpus[0] if self._cpus else 0
        governor = None
        with suppress(OSError):
            governor = self._cpufreq(first, "scaling_governor").read_text().strip()
        return Activity(
            seconds=seconds,
            load=self._load,
            other_cpus=None if busy is None else max(0.0, (busy - own) / seconds),
            busiest=self._busiest(seconds),
            steal_percent=None if stolen is None else 100 * stolen / seconds / max(len(self._cpus), 1),
            throttled=None if stops is None or self._stops is None else stops - self._stops,
            governor=governor,
            turbo=self._turbo(),
            mhz=(min(self._mhz), max(self._mhz)) if self._mhz else None,
        )

    def _busy_and_stolen(self) -> tuple[float | None, float | None]:
        """Seconds since the beginning: busy, of all CPUs; stolen, from those that are used."""
        now, before = self._cpu_times(), self._stat
        if "cpu" not in now or "cpu" not in before:
            return None, None
        user, nice, system, _, _, irq, softirq, steal, *_ = (
            b - a for a, b in zip(before["cpu"], now["cpu"], strict=True)
        )
        used = [f"cpu{cpu}" for cpu in self._cpus if f"cpu{cpu}" in now and f"cpu{cpu}" in before]
        stolen = sum(now[cpu][7] - before[cpu][7] for cpu in used) if used else steal
        return (user + nice + system + irq + softirq) * _JIFFY_S, stolen * _JIFFY_S

    def _cpu_times(self) -> dict[str, tuple[int, ...]]:
        """Jiffies of each CPU, "cpu" for all together: user, nice, system, idle, iowait, irq, softirq, steal."""
        with suppress(OSError):
            lines = re.findall(r"^(cpu\d*)\s+(.+)$", (self._proc / "stat").read_text(), re.M)
            times = {name: tuple(int(number) for number in rest.split()) for name, rest in lines}
            return {name: numbers for name, numbers in times.items() if len(numbers) >= 8}
        return {}

    def _process_times(self) -> dict[tuple[int, str], tuple[str, float]]:
        """Name and seconds of CPU time of each other process, by its number and when it began."""
        times = {}
        for file in self._proc.glob("[0-9]*/stat"):
            with suppress(OSError, ValueError, IndexError):  # it has ended
                pid, _, rest = file.read_text().partition(" (")
                name, _, numbers = rest.rpartition(") ")
                fields = numbers.split()
                times[int(pid), fields[19]] = name, (int(fields[11]) + int(fields[12])) * _JIFFY_S
        return {key: time for key, time in times.items() if key[0] != os.getpid()}

    def _busiest(self, seconds: float) -> tuple[Process, ...]:
        processes = [
            Process(name=name, pid=key[0], cpus=(spent - self._processes.get(key, ("", 0.0))[1]) / seconds)
            for key, (name, spent) in self._latest.items()
        ]
        notable = [process for process in processes if process.cpus >= _NOTABLE]
        return tuple(sorted(notable, key=lambda process: (-process.cpus, process.pid))[:3])

    def _load_of_last_minute(self) -> float | None:
        with suppress(OSError, ValueError, IndexError):
            return float((self._proc / "loadavg").read_text().split()[0])
        return None

    def _stopped(self) -> int | None:
        for place in ("fs/cgroup/cpu.stat", "fs/cgroup/cpu/cpu.stat"):  # version 2, and 1, of control groups
            with suppress(OSError):
                if match := re.search(r"^nr_throttled (\d+)$", (self._sys / place).read_text(), re.M):
                    return int(match[1])
        return None

    def _turbo(self) -> bool | None:
        cpu = self._sys / "devices/system/cpu"
        for file, on in ((cpu / "intel_pstate/no_turbo", "0"), (cpu / "cpufreq/boost", "1")):
            with suppress(OSError):
                return file.read_text().strip() == on
        return None

    def _cpufreq(self, cpu: int, name: str) -> Path:
        return self._sys / f"devices/system/cpu/cpu{cpu}/cpufreq/{name}"
