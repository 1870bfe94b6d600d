"""What this machine's CPU tells of itself."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path


@cache
def cpuinfo() -> str:
    """Linux's description of all logical processors; empty on other systems."""
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def cpu_flags() -> frozenset[str]:
    """Instruction sets of the first processor, as Linux names them; empty where that is not known."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo(), re.M)
    return frozenset(found[1].split()) if found else frozenset()
