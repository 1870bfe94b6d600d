"""The number format of forward and backward passes: float32, or bfloat16 where the processor has it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]

NATIVE_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})


@cache
def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Instruction sets of the first processor, as Linux names them; empty where that is not known."""
    try:
        found = re.search(r"^flags\s*:(.*)$", path.read_text(), re.MULTILINE)
    except OSError:
        return frozenset()
    return frozenset(found[1].split()) if found else frozenset()


def resolve_precision(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """What "auto" is on this device: bfloat16 only if the hardware multiplies it, for emulation is slow."""
    if precision != "auto":
        return precision
    if device.type == "cpu":
        native = bool(cpu_flags() & NATIVE_BFLOAT16)
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return "bfloat16" if native else "float32"


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Context in which convolutions and matrix products run in `precision`; weights stay float32."""
    low = resolve_precision(precision, device) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=low)
