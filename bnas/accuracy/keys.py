"""The keys of a foreign configuration: each is used, noted because it changes nothing here, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bnas.errors import ConfigError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys that a mapping may have. `noted`: why it changes nothing. `refused`: what to do instead."""

    used: tuple[str, ...]
    noted: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def check(self, entry: Any, where: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The keys that are used, with their values, and the notes about the others. A null value is none at all.

        Raises:
            ConfigError: no mapping, or a key that is refused or that nobody knows; the text starts with its path.
        """
        if not isinstance(entry, Mapping):
            raise ConfigError(f"{where}: expected a mapping of options, got {_short(entry)}")
        notes = []
        for key, value in entry.items():
            if key in self.refused and value not in (None, False, [], {}):
                raise ConfigError(f"{where}.{key}: {_short(value)} cannot be done here: {self.refused[key]}")
            if key in self.noted and value is not None:
                notes.append(f"{where}.{key}: {_short(value)}: {self.noted[key]}")
            if key not in self.used and key not in self.noted and key not in self.refused:
                known = (*self.used, *self.noted)
                raise ConfigError(f"{where}.{key}: no such option{did_you_mean(str(key), known)}")
        return {key: value for key, value in entry.items() if key in self.used and value is not None}, tuple(
            notes
        )


def text_of(entry: Mapping[str, Any], key: str, where: str) -> str | None:
    """The text under `key`, None where there is none. Raises ConfigError for anything else."""
    value = entry.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{where}.{key}: expected a text, got {_short(value)}")
    return value


def whole_of(entry: Mapping[str, Any], key: str, where: str) -> int | None:
    """The number above 0 under `key`, None where there is none. Raises ConfigError for anything else."""
    value = entry.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ConfigError(f"{where}.{key}: expected a whole number above 0, got {_short(value)}")
    return value


def truth_of(entry: Mapping[str, Any], key: str, where: str) -> bool:
    """The True or False under `key`, False where there is none. Raises ConfigError for anything else."""
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise ConfigError(f"{where}.{key}: expected True or False, got {_short(value)}")
    return value


def items_of(entry: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """The list under `key`. Raises ConfigError where it is no list, or empty."""
    value = entry.get(key)
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{where}.{key}: expected a list of at least one, got {_short(value)}")
    return value


def _short(value: Any) -> str:
    shown = "nothing" if value is None else repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
