"""What the command line asked for, and what a command is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """`python -m bnas COMMAND [words] [conf=NAME] [key=value ...] [--hw NAME] [--force]`, taken apart."""

    command: str
    arguments: tuple[str, ...] = ()
    """The words that are neither `key=value` nor an option, as `report` in `show report`."""
    conf: str | None = None
    overrides: tuple[str, ...] = ()
    hw: str | None = None
    force: bool = False
    check: bool = False
    """`measure --check`."""
    listen: str | None = None
    """`measure worker --listen`."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command: its name, one line of help, and the function that does it.

    `together`: all processes that torchrun started run it, not the first alone.
    """

    name: str
    help: str
    run: Callable[[Invocation], None]
    together: bool = False
