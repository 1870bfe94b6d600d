"""Did other work disturb what was just timed? Witnesses outside the times themselves.

A block of calls is never thrown away for being slow: that would make every network look faster than it is. It
is repeated only when the system says that something else took the CPU: its scheduler let this process's threads
wait for a CPU (Linux: /proc/…/schedstat), the hypervisor took the CPU away (steal time), or, where neither can
be read, threads were switched out against their will. No system tells what others do to shared caches and memory: of
that the reference network is the witness, which is timed beside every other (`Calm`).
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from math import inf
from pathlib import Path

import numpy as np

WAITED = 0.02  # of a block's time: more waiting for a CPU than this, and it is repeated
CALM = 1.05  # times what the reference takes when the machine is calm: up to that it is calm
_CALM_SHARE = 10  # per cent of the reference's times: so many are surely of a calm machine
_KNOWN = 30  # times of the reference from which on it can be told
_REMEMBERED = 20_000  # of them: about ten minutes of timing, in which it was calm for one
_TASKS = Path("/proc/self/task")
_JIFFY = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]


class Witness:
    """Watches over blocks of calls: `begin`, run them, then `disturbed` says whether to repeat them.

    A context manager: it holds a file open for each thread that the process has when it is made.
    `waiting`: threads that wait for a CPU tell of other work. Not so where a process runs more of them than there
    are CPUs, as with several inferences at once: they wait for each other, and only stolen time tells.
    """

    def __init__(self, *, waiting: bool = True) -> None:
        self._by_waiting = waiting
        self._files: list[int] = []
        self._stat: int | None = None
        self._waited_s = self._stolen_s = self._began = 0.0
        self._switched = 0

    def __enter__(self) -> Witness:
        with suppress(OSError):
            for task in _TASKS.iterdir() if self._by_waiting else ():
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
        if self._files or not self._by_waiting:
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


class Calm:
    """Whether the machine is calm, by the times of one network that are told as they come."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_REMEMBERED)
        self.limit_ms = inf
        """What the network takes at most while the machine is calm; infinite while too little is known."""

    @property
    def now(self) -> bool:
        """Whether it was calm when it was last told of."""
        return not self._times or self._times[-1] <= self.limit_ms

    def tell(self, reference_ms: float) -> None:
        """The network took so long."""
        self._times.append(reference_ms)
        if len(self._times) >= _KNOWN:
            self.limit_ms = calm_ms(self._times)


def calm_ms(times: Iterable[float]) -> float:
    """What one network takes at most, of these times of it, while the machine is calm; 0 of none."""
    known = np.fromiter(times, dtype=float)
    return CALM * float(np.percentile(known, _CALM_SHARE)) if len(known) else 0.0


def _switched() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource is not None else 0
