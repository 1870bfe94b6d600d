"""The choices that a super-network leaves open, and the configs they span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

from bnas.errors import SpaceError, did_you_mean
from bnas.plain import digest
from bnas.space.config import SubnetConfig

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One thing that may be chosen: `values` ascend and the last is the original network's.

    `dim` is the elastic dimension it belongs to. For `width` the values are channels of the layer that
    names the one group in `targets`; for `depth` they are how many of the blocks in `targets` are kept,
    counted from the first.
    """

    name: str
    dim: str
    values: tuple[int, ...]
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.values or any(a >= b for a, b in zip(self.values, self.values[1:], strict=False)):
            raise SpaceError(f"{self.name}: values must ascend and not be empty, got {list(self.values)}")


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """All subnets of a super-network. Every combination of values is valid: sampling needs no repair."""

    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        names = [choice.name for choice in self.choices]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise SpaceError(f"{twice}: this choice occurs more than once")

    @cached_property
    def choice_by_name(self) -> dict[str, Choice]:
        return {choice.name: choice for choice in self.choices}

    @cached_property
    def digest(self) -> str:
        """16 hex characters that change with any choice."""
        return digest(self)

    @property
    def size(self) -> int:
        """Number of different configs."""
        return prod(self.bounds)

    @property
    def bounds(self) -> tuple[int, ...]:
        """Number of values of each choice."""
        return tuple(len(choice.values) for choice in self.choices)

    @property
    def dims(self) -> tuple[str, ...]:
        """The elastic dimensions that occur, in order."""
        return tuple(dict.fromkeys(choice.dim for choice in self.choices))

    @property
    def largest(self) -> SubnetConfig:
        """The original network."""
        return SubnetConfig({choice.name: choice.values[-1] for choice in self.choices})

    @property
    def smallest(self) -> SubnetConfig:
        return SubnetConfig({choice.name: choice.values[0] for choice in self.choices})

    def sample(self, rng: np.random.Generator, *, open: Mapping[str, int] | None = None) -> SubnetConfig:
        """A config with every open choice drawn uniformly and independently.

        `open` maps a dimension to how many of its largest values may be drawn (0: all); dimensions that it
        does not name stay at their largest value. None opens everything.
        """
        if open is not None and (unknown := set(open) - set(self.dims)):
            name = min(unknown)
            raise SpaceError(
                f"{name}: no such elastic dimension in this space{did_you_mean(name, self.dims)}"
            )
        values = {}
        for choice in self.choices:
            count = len(choice.values) if open is None else self._open(choice, open)
            values[choice.name] = choice.values[len(choice.values) - count + int(rng.integers(count))]
        return SubnetConfig(values)

    @staticmethod
    def _open(choice: Choice, open: Mapping[str, int]) -> int:
        if choice.dim not in open:
            return 1
        return min(open[choice.dim] or len(choice.values), len(choice.values))

    def validate(self, config: SubnetConfig) -> None:
        """Raise SpaceError unless `config` gives exactly one allowed value to every choice."""
        for name, value in config.items():
            choice = self.choice_by_name.get(name)
            if choice is None:
                raise SpaceError(
                    f"{name}: no such choice in this space{did_you_mean(name, self.choice_by_name)}"
                )
            if value not in choice.values:
                allowed = ", ".join(map(str, choice.values))
                raise SpaceError(f"{name}: {value} is not one of {allowed}")
        if missing := [choice.name for choice in self.choices if choice.name not in config.values]:
            raise SpaceError(
                f"{missing[0]}: the subnet gives no value ({len(missing)} of {len(self.choices)} missing)"
            )

    def encode(self, config: SubnetConfig) -> tuple[int, ...]:
        """The index of each value among its choice's values, in order of the choices."""
        self.validate(config)
        return tuple(choice.values.index(config[choice.name]) for choice in self.choices)

    def decode(self, indices: Sequence[int]) -> SubnetConfig:
        """The config whose `encode` is `indices`."""
        if len(indices) != len(self.choices):
            raise SpaceError(f"{len(indices)} indices given for {len(self.choices)} choices")
        values = {}
        for choice, index in zip(self.choices, indices, strict=True):
            if not 0 <= index < len(choice.values):
                raise SpaceError(f"{choice.name}: index {index} is outside 0 … {len(choice.values) - 1}")
            values[choice.name] = choice.values[index]
        return SubnetConfig(values)
