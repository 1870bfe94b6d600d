"""One of the processes that evaluate for a `RayPool`. What it is sent and what it answers is JSON."""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bnas.errors import BnasError
from bnas.plain import from_plain, to_plain
from bnas.search.pool import Evaluate, Failure, Job, outcome_of
from bnas.version import __version__

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a worker is, and of which bnas."""

    host: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The values of a subnet, or why it has none (`failure`), or an error, as one line.

    `raised` is the error's class in `bnas.errors`; empty: it is of no such class, and `trace` is its traceback.
    """

    values: dict[str, float] | None = None
    failure: str | None = None
    error: str = ""
    raised: str = ""
    trace: str = ""


class Worker:
    """Evaluates one subnet after the other."""

    def __init__(self) -> None:
        self._evaluate: Evaluate | None = None

    def where(self) -> str:
        """A `Place`; answers as soon as there is a process, so it tells that the worker lives."""
        return encode(Place(host=platform.node(), version=__version__))

    def begin(self, factory: str, arguments: str, threads: int, folder: str) -> str:
        """Make the evaluation by the function `package.module:name`; an `Answer` without values, or an error.

        Where there is `folder`, paths are relative to it.
        """
        os.environ["OMP_NUM_THREADS"] = str(threads)  # read by what the factory's module imports
        with suppress(OSError):
            os.chdir(folder)
        try:
            module, _, name = factory.partition(":")
            make = getattr(importlib.import_module(module), name)
            self._evaluate = make(**json.loads(arguments))
        except Exception as error:
            return encode(_told(error))
        torch: Any = sys.modules.get("torch")
        if torch is not None:  # to open a run gives it all cores of the machine
            torch.set_num_threads(threads)
        return encode(Answer())

    def evaluate(self, request: str) -> str:
        """The `Answer` to a `Job`."""
        assert self._evaluate is not None, "begin() comes first"
        try:
            outcome = outcome_of(self._evaluate, decode(Job, request))
            if isinstance(outcome, Failure):
                return encode(Answer(failure=outcome.reason))
            return encode(Answer(values={str(name): float(value) for name, value in outcome.items()}))
        except Exception as error:
            return encode(_told(error))


def encode(x: Any) -> str:
    """A dataclass as it travels."""
    return json.dumps(to_plain(x))


def decode(cls: type[T], text: str) -> T:
    """The `cls` that travelled as `text`."""
    return from_plain(cls, json.loads(text))


def _told(error: Exception) -> Answer:
    if isinstance(error, BnasError):
        return Answer(error=str(error), raised=type(error).__name__)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    (line, *_) = str(error).strip().splitlines() or [""]
    place = f"{Path(frame.filename).name}:{frame.lineno}, in {frame.name}"
    return Answer(
        error=f"{type(error).__name__}: {line} ({place})",
        trace="".join(traceback.format_exception(error)),
    )
