"""Did other work disturb what was just timed? Witnesses outside the times themselves.

A block of calls is never thrown away for being slow: that would make every network look faster than it is. It
is repeated only when the system says that something else took the CPU: its scheduler let this process's threads
wait for a CPU (Linux: /proc/…/schedstat), the hypervisor took the CPU away (steal time), or, where neither can
be read, threads were switched out against their will.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

WAITED = 0.02  # of a block's time: more waiting for a CPU than this, and it is repeated
_TASKS = Path("/proc/self/task")
_JIFFY = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]


class Witness:
    """Watches over blocks of calls: `begin`, run them, then `disturbed` says whether to repeat them.

    A context manager: it holds a file open for each thread that the process has when it is made.
    """

    def __init__(self) -> None:
        self._files: list[int] = []
        self._stat: int | None = None
        self._waited_s = self._stolen_s = self._began = 0.0
        self._switched = 0

    def __enter__(self) -> Witness:
        with suppress(OSError):
            for task in _TASKS.iterdir():
                with suppress(OSError):  # the thread has ended
                    self._files.append(os.open(task / "schedstat", os.O_RDONLY))
            self._stat = os.open("/proc/stat", os.O_RDONLY)
        return self

    def __exit__(self, *_: object) -> None:
        for file in (*self._files, *([] if self._stat is None else [self._stat])):
            os.close(file)
        self._files, self._stat = [], None

    def begin(self) -> None:
        """A block begins."""
        self._waited_s, self._stolen_s = self._waiting(), self._stealing()
        self._switched = _switched()
        self._began = time.perf_counter()

    def disturbed(self) -> bool:
        """Whether other work took a notable part of the time since `begin`."""
        limit = WAITED * (time.perf_counter() - self._began)
        if self._files:
            return self._waiting() - self._waited_s > limit or self._stealing() - self._stolen_s > limit
        return _switched() > self._switched

    def _waiting(self) -> float:
        """Seconds that threads of this process have waited for a CPU, in all."""
        nanoseconds = 0
        for file in self._files:
            with suppress(OSError, IndexError, ValueError):  # a thread that has ended reads as nothing
                nanoseconds += int(os.pread(file, 128, 0).split()[1])
        return nanoseconds / 1e9

    def _stealing(self) -> float:
        """Seconds, in steps of a hundredth, that the hypervisor has taken from all CPUs."""
        if self._stat is not None:
            with suppress(OSError, IndexError, ValueError):
                return int(os.pread(self._stat, 256, 0).split(maxsplit=9)[8]) * _JIFFY
        return 0.0


def _switched() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource is not None else 0
