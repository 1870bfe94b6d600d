"""The hardware to measure on: what the user asks for, and what this machine is."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from typing import Literal

from bnas.errors import ConfigError, did_you_mean
from bnas.measure.backends import BACKENDS

# Instruction sets that decide how fast a network runs, and at which precision.
_FLAGS = (
    "avx2", "fma", "avx512f", "avx512bw", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
_INT8_FLAGS = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"}


@dataclass(frozen=True, kw_only=True)
class HwConfig:
    """What to measure on and how. `name` names the results' folder; `threads` 0: all physical cores.

    `precision` int8: networks are quantized, what is left of them in float runs as FP32; f32: as trained;
    bf16: as trained, run in BF16.
    """

    name: str = "cpu"
    backend: str = "openvino"
    precision: Literal["int8", "f32", "bf16"] = "int8"
    threads: int = 0
    batch: int = 1

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise ConfigError(f"name: expected the name of a folder, got '{self.name}'")
        if self.backend not in BACKENDS:
            raise ConfigError(
                f"backend: no such backend '{self.backend}'{did_you_mean(self.backend, BACKENDS)}"
            )
        if not 0 <= self.threads <= logical_cores():
            raise ConfigError(
                f"threads: expected 0 (all physical cores) to {logical_cores()}, the logical cores of this "
                f"machine, got {self.threads}"
            )
        if self.batch < 1:
            raise ConfigError(f"batch: expected 1 or more, got {self.batch}")

    @property
    def thread_count(self) -> int:
        """The number of threads that `threads` stands for on this machine."""
        return self.threads or physical_cores()


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """This machine and runtime, as far as latency depends on them.

    Cores are those that this process may use. `notes` are what a reader of INT8 results should know.
    """

    cpu: str
    physical_cores: int
    logical_cores: int
    flags: tuple[str, ...]
    memory_gib: int
    os: str
    runtime: str
    runtime_version: str
    notes: tuple[str, ...] = ()


def detect(hw: HwConfig) -> Hardware:
    """The machine this runs on, and the version of the runtime that `hw` names."""
    flags = tuple(flag for flag in _FLAGS if flag in _cpu_flags())
    return Hardware(
        cpu=_cpu_model(),
        physical_cores=physical_cores(),
        logical_cores=logical_cores(),
        flags=flags,
        memory_gib=_memory_gib(),
        os=f"{platform.system()} {platform.release()}",
        runtime=hw.backend,
        runtime_version=_version(hw.backend),
        notes=() if _INT8_FLAGS & set(flags) or not flags else (
            "this CPU has no VNNI: INT8 may saturate and lose accuracy, and gains less speed",
        ),
    )  # fmt: skip


def physical_cores() -> int:
    """Physical cores that this process may use."""
    cores = set(re.findall(r"^physical id\s*: (\d+)$.*?^core id\s*: (\d+)$", _cpuinfo(), re.M | re.S))
    return min(len(cores) or logical_cores(), logical_cores())


def logical_cores() -> int:
    """Logical cores that this process may use: by its CPU affinity and by its container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(count, max(1, ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control groups, or "max": no quota
        return count


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _cpu_model() -> str:
    match = re.search(r"^(?:model name|Model|Hardware)\s*: (.+)$", _cpuinfo(), re.M)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _cpu_flags() -> set[str]:
    match = re.search(r"^(?:flags|Features)\s*: (.+)$", _cpuinfo(), re.M)
    return set(match[1].split()) if match else set()


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
