"""Kinds of rules for the keys of a configuration of another program: each reads a value, or refuses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bnas.errors import ConfigError, did_you_mean


@dataclass
class Reading:
    """What has been found so far; `options` by dotted path."""

    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sample_size: tuple[int, ...] | None = None

    def set(self, path: str, value: Any, where: str) -> None:
        """Enter an option.

        Raises:
            ConfigError: another key has set it to something else.
        """
        if self.options.setdefault(path, value) != value:
            raise ConfigError(
                f"{where}: {value!r} here and {self.options[path]!r} elsewhere; say one of them"
            )


Rule = Callable[[Reading, str, Any], None]


def section(rules: Mapping[str, Rule]) -> Rule:
    """A mapping, each key of which has a rule."""

    def read(reading: Reading, where: str, value: Any) -> None:
        check(isinstance(value, Mapping), where or "the whole", "a mapping", value)
        for key, item in value.items():
            path = f"{where}.{key}" if where else str(key)
            if key not in rules:
                raise ConfigError(f"{path}: NNCF has no such key{did_you_mean(str(key), rules)}")
            rules[key](reading, path, item)

    return read


def typed(path: str, kind: type) -> Rule:
    """An option that is a bool or a whole number, not below 0."""

    def read(reading: Reading, where: str, value: Any) -> None:
        whole = kind is int and isinstance(value, float) and value.is_integer()
        right = type(value) is kind or whole
        check(
            right and value >= 0,
            where,
            "true or false" if kind is bool else "a whole number, 0 or more",
            value,
        )
        reading.set(path, kind(value), where)

    return read


def one_of(path: str, values: Mapping[Any, Any]) -> Rule:
    """An option that is one of some values, each with what it is called here."""

    def read(reading: Reading, where: str, value: Any) -> None:
        right = isinstance(value, (str, bool)) and value in values
        check(right, where, " or ".join(repr(known) for known in values), value)
        reading.set(path, values[value], where)

    return read


def changes_nothing(why: str) -> Rule:
    return lambda reading, where, value: reading.notes.append(f"{where}: {why}")


def refused(instead: str, *, unless: tuple[Any, ...] = ()) -> Rule:
    """Refused, but for values that ask for nothing."""

    def read(reading: Reading, where: str, value: Any) -> None:
        if not any(type(value) is type(nothing) and value == nothing for nothing in unless):
            raise ConfigError(f"{where}: has no counterpart in NNCF 3; {instead}")

    return read


def check(right: bool, where: str, expected: str, got: Any) -> None:
    if not right:
        raise ConfigError(f"{where}: expected {expected}, got {'null' if got is None else repr(got)}")
