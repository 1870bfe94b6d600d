"""Whether INT8 saturates on this CPU, and what is done about it.

Without VNNI or AMX a CPU of the x86 family adds two products of INT8 numbers in 16 bits: with weights in the full range
the sum saturates, and accuracy is lost (published: the same file has a top-1 of 69.0 % there and 74.8 % elsewhere).
Weights that use half of their range, 7 bits, cannot overflow.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Literal

from bnas import progress
from bnas.cpu import cpu_flags

OverflowFix = Literal["enable", "first_layer_only", "disable"]

# Instruction sets that add up products of INT8 numbers in 32 bits.
_SAFE = {"avx_vnni", "avx512_vnni", "amx_int8"}


def saturates() -> bool | None:
    """Whether sums of INT8 products saturate on this machine's CPU; None: it does not tell its instruction sets."""
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return False  # ARM multiplies INT8 numbers into 32 bits, or widens them first
    flags = cpu_flags()
    return not _SAFE & flags if flags else None


def overflow_fix(
    asked: Literal["auto", "enable", "first_layer_only", "disable"],
    *,
    device: str = "any",
    asymmetric: bool = False,
) -> OverflowFix | None:
    """What to tell NNCF; None: nothing, and it treats the first layer.

    With "auto" all layers are treated where this CPU saturates and the network is for a CPU like this one (`device`
    "any" or "cpu"), which a line says. Asymmetric weights cannot be treated.
    """
    if asked != "auto":
        return asked
    unsafe = device in ("any", "cpu") and saturates()
    if asymmetric:
        if unsafe:
            say_once(
                "quantize: this CPU has neither VNNI nor AMX, and INT8 with asymmetric weights may saturate on it; "
                "weights.mode=symmetric avoids that"
            )
        return "disable"
    if not unsafe:
        return None
    say_once(
        "quantize: this CPU has neither VNNI nor AMX, and INT8 saturates on it: weights use half of their range "
        "(overflow_fix=enable); for networks that run on other machines set quantize.overflow_fix=first_layer_only"
    )
    return "enable"


@cache
def say_once(line: str) -> None:
    """Print a line, the first time that it is said in this process."""
    progress.say(line)
