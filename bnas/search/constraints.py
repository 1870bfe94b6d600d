"""Bounds that a subnet has to keep."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bnas.errors import ConfigError

_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A value, by name, that has to be at most (`<=`) or at least (`>=`) `limit`."""

    name: str
    bound: Literal["<=", ">="]
    limit: float

    def violation(self, values: Mapping[str, float]) -> float:
        """By what share of the limit `values` break it; 0 where they keep it, infinite where one is no number."""
        over = values[self.name] - self.limit if self.bound == "<=" else self.limit - values[self.name]
        if math.isnan(over):
            return math.inf
        return max(0.0, over / max(abs(self.limit), _TINY))

    def better(self, a: float, b: float) -> float:
        """That of two values which is nearer to keeping it, or keeps it by more."""
        return min(a, b) if self.bound == "<=" else max(a, b)

    def __str__(self) -> str:
        return f"{self.name} {self.bound} {self.limit:g}"


def parse_constraints(options: Mapping[str, str]) -> tuple[Constraint, ...]:
    """The constraints that options as `{"latency_ms": "<= 5", "top1_percent": ">= 90, <= 93"}` ask for.

    Raises:
        ConfigError: a bound that is not `<= NUMBER` or `>= NUMBER`.
    """
    return tuple(
        _constraint(name, part, text) for name, text in options.items() for part in str(text).split(",")
    )


def _constraint(name: str, part: str, text: str) -> Constraint:
    match = re.fullmatch(r"\s*(<=|>=)\s*(\S+)\s*", part)
    try:
        limit = float(match[2]) if match else math.nan
    except ValueError:
        limit = math.nan
    if match is None or not math.isfinite(limit):
        raise ConfigError(f"constraints.{name}: expected '<= NUMBER' or '>= NUMBER', got '{text}'")
    return Constraint(name=name, bound="<=" if match[1] == "<=" else ">=", limit=limit)


def violation(constraints: Sequence[Constraint], values: Mapping[str, float]) -> float:
    """The sum of all violations, 0 where all are kept; constraints on values that are not there do not count."""
    return sum(own.violation(values) for own in constraints if own.name in values)
