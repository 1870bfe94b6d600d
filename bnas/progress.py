"""What a person sees while a stage works: one bar with the time left, one line when it is done.

Everything here is silent until `enable()`, which the command line calls: a library stays quiet.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 10.0
now = monotonic  # looked up at each call, so that a test can replace the clock


@dataclass
class _Screen:
    enabled: bool = False
    live: Progress | None = None


_screen = _Screen()


def enable(on: bool = True) -> None:
    """Show bars and lines from now on (or no more)."""
    _screen.enabled = on


def say(line: str) -> None:
    """Print one line to stdout as it is."""
    if not _screen.enabled:
        return
    if _screen.live is not None and sys.stdout.isatty():  # above the bar, not through it
        _screen.live.console.print(line, markup=False, highlight=False, soft_wrap=True)
    else:
        print(line, flush=True)


@contextmanager
def bar(description: str, total: int) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr; yields `step(n=1, note="loss 0.31")`, which goes `n` of `total` further.

    A bar opened inside another one is drawn below it. Where stderr is no terminal, a plain line is printed
    about every ten seconds.
    """
    if not _screen.enabled:
        yield _silent
    elif sys.stderr.isatty():
        yield from _drawn(description, total)
    else:
        lines = _Lines(description, total)
        yield lines.step
        lines.close()


def _silent(n: int = 1, note: str = "") -> None:
    pass


def _drawn(description: str, total: int) -> Iterator[Callable[..., None]]:
    outer = _screen.live
    live = outer or _new_live()
    task = live.add_task(description, total=total, note="")

    def step(n: int = 1, note: str | None = None) -> None:
        live.advance(task, n)
        if note is not None:
            live.update(task, note=note)

    try:
        if outer is None:
            live.start()
            _screen.live = live
        yield step
    finally:
        if outer is None:
            _screen.live = None
            live.stop()
        else:
            live.remove_task(task)


def _new_live() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        transient=True,  # the stage's own line is what stays
        redirect_stdout=False,
        refresh_per_second=4,
    )


class _Lines:
    """The bar where stderr is a file or a pipe."""

    def __init__(self, description: str, total: int) -> None:
        self.description, self.total = description, total
        self.done = 0
        self.note = ""
        self.printed_at = now()
        self.printed = False
        self.first: tuple[float, int] | None = None  # (time, done) after the first step: what a resumed stage
        # skips over, and the first step's warm-up, say nothing of the speed

    def step(self, n: int = 1, note: str | None = None) -> None:
        self.done += n
        self.note = self.note if note is None else note
        time = now()
        self.first = self.first or (time, self.done)
        if time - self.printed_at >= SECONDS_BETWEEN_LINES:
            self.printed_at, self.printed = time, True
            self._print(time)

    def close(self) -> None:
        if self.printed:
            self._print(now())

    def _print(self, time: float) -> None:
        percent = f"{100 * self.done // max(self.total, 1)}%"
        parts = (self.description, f"{self.done}/{self.total}", percent, self._left(time), self.note)
        print("  ".join(part for part in parts if part), file=sys.stderr, flush=True)

    def _left(self, time: float) -> str:
        if self.first is None or self.done <= self.first[1] or self.done >= self.total:
            return ""
        since, done = self.first
        seconds = round((self.total - self.done) * (time - since) / (self.done - done))
        hours, minutes = seconds // 3600, seconds // 60 % 60
        clock = f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"
        return f"{clock} left"
