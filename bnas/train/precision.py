"""The number format of forward and backward passes: float32, or one of 16 bits where that is quicker."""

from __future__ import annotations

from typing import Literal

import torch

from bnas.cpu import cpu_flags

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Resolved = Literal["float32", "bfloat16", "float16"]

_LOW = {"bfloat16": torch.bfloat16, "float16": torch.float16}
NATIVE_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})


def resolve_precision(precision: Precision, device: torch.device) -> Resolved:
    """What "auto" is on this device: bfloat16 only if the hardware multiplies it, for emulation is slow."""
    if precision != "auto":
        return precision
    if device.type == "cpu":
        native = bool(cpu_flags() & NATIVE_BFLOAT16)
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if native else "float32"


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Context in which convolutions and matrix products run in `precision`; weights stay float32."""
    dtype = _LOW.get(resolve_precision(precision, device))
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def make_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """What scales the loss, so that gradients do not underflow (Micikevicius et al. 2018); it is off, and does
    nothing, unless the precision is float16. A step whose gradients overflow is left out and the scale halved.
    """
    return torch.amp.GradScaler(device.type, enabled=resolve_precision(precision, device) == "float16")
