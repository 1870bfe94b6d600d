"""The hardware to measure on: what the user asks for, and what this machine is."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from typing import Literal

from bnas import cpu as this_cpu
from bnas.errors import ConfigError, MeasureError
from bnas.measure.backends import BACKENDS, check_offered

# Instruction sets that decide how fast a network runs, and at which precision.
_FLAGS = (
    "avx2", "fma", "avx512f", "avx512bw", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
_INT8_FLAGS = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"}
# Read once: while networks are timed, this process is pinned to fewer.
_ALLOWED = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


@dataclass(frozen=True, kw_only=True)
class HwConfig:
    """What to measure on and how. `name` names the results' folder; `threads` 0: all physical cores.

    `precision` int8: networks are quantized, what is left of them in float runs as FP32; f32: as trained;
    bf16: as trained, run in BF16. `batch` images go into one inference. `scenario` latency: one inference at a
    time; throughput: `streams` of them at once (0: as many as the runtime thinks best). `cpus` are the logical
    CPUs to run on, by number; empty: the first `threads` of those that this process may use.

    `where` the networks run: here, on the nodes of a Ray cluster that have the resource `bnas_device:<device>`
    (see the section `ray`), or at the `address` (http://host:port) of a `bnas measure worker`.
    """

    name: str = "cpu"
    backend: str = "openvino"
    precision: Literal["int8", "f32", "bf16"] = "int8"
    threads: int = 0
    batch: int = 1
    scenario: Literal["latency", "throughput"] = "latency"
    streams: int = 0
    cpus: tuple[int, ...] = ()
    where: Literal["here", "ray", "worker"] = "here"
    device: str = ""
    address: str = ""

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise ConfigError(f"name: expected the name of a folder, got '{self.name}'")
        check_offered(self.backend, self.precision, self.scenario)
        for name, least in (("threads", 0), ("batch", 1), ("streams", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: expected {least} or more, got {getattr(self, name)}")
        if self.streams and self.scenario == "latency":
            raise ConfigError(f"streams: only with scenario=throughput, got {self.streams}")
        if self.where == "here":
            self._check_cores()
        if self.where == "worker" and not self.address.startswith(("http://", "https://")):
            raise ConfigError(f"address: expected that of a worker, http://host:port, got '{self.address}'")

    def _check_cores(self) -> None:
        if self.threads > logical_cores():
            raise ConfigError(
                f"threads: expected 0 (all physical cores) to {logical_cores()}, the logical cores of this "
                f"machine, got {self.threads}"
            )
        allowed = allowed_cpus()
        if unknown := [cpu for cpu in self.cpus if cpu not in allowed]:
            given = ", ".join(str(cpu) for cpu in allowed)
            raise ConfigError(f"cpus: this process may use CPU {given}, got {unknown[0]}")
        if self.cpus and self.threads > len(self.cpus):
            raise ConfigError(
                f"threads: {self.threads} do not fit on {len(self.cpus)} CPUs (cpus); give one for each"
            )

    @property
    def thread_count(self) -> int:
        """The number of threads that `threads` stands for on this machine."""
        return self.threads or (len(self.cpus) or physical_cores())

    @property
    def cpu_list(self) -> tuple[int, ...]:
        """The logical CPUs to run on here; empty where the system cannot pin."""
        return self.cpus or _one_per_core_first(allowed_cpus())[: self.thread_count]


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """This machine and runtime, as far as latency depends on them.

    Cores are those that this process may use, `cpus` those that networks run on (none where the system cannot
    pin). `frequency_mhz` and `governor` are those of the moment; None where they cannot be read. `notes` are
    what a reader of INT8 results should know.
    """

    cpu: str
    physical_cores: int
    logical_cores: int
    flags: tuple[str, ...]
    memory_gib: int
    os: str
    runtime: str
    runtime_version: str
    cpus: tuple[int, ...] = ()
    frequency_mhz: int | None = None
    governor: str | None = None
    host: str = ""
    notes: tuple[str, ...] = ()


def detect(hw: HwConfig) -> Hardware:
    """The machine this runs on, and the version of the runtime that `hw` names."""
    flags = tuple(flag for flag in _FLAGS if flag in this_cpu.cpu_flags())
    cpus = hw.cpu_list
    return Hardware(
        cpu=_cpu_model(),
        physical_cores=physical_cores(),
        logical_cores=logical_cores(),
        flags=flags,
        memory_gib=_memory_gib(),
        os=f"{platform.system()} {platform.release()}",
        runtime=hw.backend,
        runtime_version=_version(BACKENDS[hw.backend].package),
        cpus=cpus,
        frequency_mhz=frequency_mhz(cpus[0] if cpus else 0),
        governor=governor(cpus[0] if cpus else 0),
        host=platform.node(),
        notes=() if _INT8_FLAGS & set(flags) or not flags else (
            "this CPU has no VNNI: INT8 may saturate and lose accuracy, and gains less speed",
        ),
    )  # fmt: skip


@contextmanager
def pinned(hw: HwConfig) -> Iterator[None]:
    """This process's threads, and those that they start, run on `hw.cpu_list` for as long as this lasts.

    Raises:
        MeasureError: the system does not let it.
    """
    if not hasattr(os, "sched_setaffinity") or not hw.cpu_list:
        yield
        return
    before = {}
    for thread in _threads():
        with suppress(ProcessLookupError):  # it has ended since it was listed
            before[thread] = os.sched_getaffinity(thread)
    try:
        for thread in before:
            _pin(thread, hw.cpu_list)
    except OSError as error:
        raise MeasureError(f"hw.cpus: cannot run on CPUs {hw.cpu_list}: {error.strerror}") from error
    try:
        yield
    finally:
        for thread, cpus in before.items():
            _pin(thread, cpus)


def _pin(thread: int, cpus: Iterable[int]) -> None:
    with suppress(ProcessLookupError):  # it has ended
        os.sched_setaffinity(thread, cpus)


def _threads() -> list[int]:
    """The threads of this process, by the system's numbers (0: this one, where it lists none)."""
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        return [0]


def allowed_cpus() -> tuple[int, ...]:
    """The logical CPUs that this process may use, by number; empty where the system does not tell."""
    return _ALLOWED


def _one_per_core_first(cpus: tuple[int, ...]) -> tuple[int, ...]:
    """Two hyper-threads of a core share it: the second one of each comes after the first ones of all."""
    found = re.findall(
        r"^processor\s*: (\d+)$.*?^physical id\s*: (\d+)$.*?^core id\s*: (\d+)$",
        this_cpu.cpuinfo(),
        re.M | re.S,
    )
    core = {int(cpu): (package, own) for cpu, package, own in found}
    siblings = {
        cpu: [other for other in cpus if core.get(other, other) == core.get(cpu, cpu)] for cpu in cpus
    }
    return tuple(sorted(cpus, key=lambda cpu: (siblings[cpu].index(cpu), cpu)))


def frequency_mhz(cpu: int) -> int | None:
    """The frequency of a CPU at this moment, or None where it cannot be read."""
    with suppress(OSError, ValueError):
        return round(int(_cpufreq(cpu, "scaling_cur_freq").read_text()) / 1000)
    return None


def governor(cpu: int) -> str | None:
    """How the system chooses the CPU's frequency ("performance", "powersave"), or None."""
    with suppress(OSError):
        return _cpufreq(cpu, "scaling_governor").read_text().strip()
    return None


def _cpufreq(cpu: int, name: str) -> Path:
    return Path(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/{name}")


def physical_cores() -> int:
    """Physical cores that this process may use."""
    cores = set(re.findall(r"^physical id\s*: (\d+)$.*?^core id\s*: (\d+)$", this_cpu.cpuinfo(), re.M | re.S))
    return min(len(cores) or logical_cores(), logical_cores())


def logical_cores() -> int:
    """Logical cores that this process may use: by its CPU affinity and by its container's quota."""
    count = len(_ALLOWED) or os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(count, max(1, ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control groups, or "max": no quota
        return count


def _cpu_model() -> str:
    match = re.search(r"^(?:model name|Model|Hardware)\s*: (.+)$", this_cpu.cpuinfo(), re.M)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _memory_gib() -> int:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (AttributeError, OSError, ValueError):  # not known here
        return 0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
