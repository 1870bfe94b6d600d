"""Errors a person can act on: what is wrong, where, what is allowed, what was got, how to mend it.

Every error that bnas raises on purpose derives from `BnasError`; the command line prints its text as one
line and exits with `exit_code`. Anything else is a defect of bnas and keeps its traceback.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from difflib import get_close_matches
from types import ModuleType


class BnasError(Exception):
    """Base of all errors raised on purpose; its text is one clear line."""

    exit_code = 2


class ConfigError(BnasError):
    """An option that does not exist, or a value it cannot take; the text starts with the option's path."""


class DataError(BnasError):
    """Missing, empty, unreadable or ill-shaped data; the text names the file or folder."""


class ModelError(BnasError):
    """A model that cannot be made, loaded, traced or run."""


class SpaceError(BnasError):
    """A subnet configuration or search space that does not fit; names the choice and its values."""


class RunError(BnasError):
    """A run folder that lacks, or holds a damaged, file; says which command makes it."""


class ExportError(BnasError):
    """A network that could not be quantized or exported, or whose artefact differs from it."""


class MeasureError(BnasError):
    """A latency that could not be measured or predicted."""


class MissingPackageError(BnasError):
    """An optional package is not installed; the text holds the command that installs it."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest known word, else the list of known words."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}" if names else ""


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, which the extra `bnas[extra]` installs.

    Raises:
        MissingPackageError: it is not installed; the text says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise MissingPackageError(
            f"{error.name} is not installed; install it with: pip install 'bnas[{extra}]'"
        ) from error
