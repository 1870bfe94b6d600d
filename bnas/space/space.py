"""The choices that a super-network leaves open, and the configs they span."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from bnas.errors import SpaceError, did_you_mean
from bnas.plain import digest
from bnas.space.config import SubnetConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The elastic dimensions, in the order in which a space lists its choices.
DIMS = ("resolution", "levels", "depth", "kernel", "width")

# The dimension of further choices, which are no super-network's: see bnas.space.precision.
PRECISION = "precision"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One thing that may be chosen: `values` ascend and the last is the original network's.

    What `values` count and `targets` name depends on the elastic dimension `dim`:

    width: channels of the layer that names the first target; the targets are groups, all of that width.
    depth: how many of the blocks in `targets` are kept: the first so many where `pattern` is `first`, or as
        many evenly spaced ones, the first among them, where it is `spread`.
    kernel: the largest side of the kernels of the layers in `targets`.
    resolution: height and width of the input images, in pixels; there are no targets.
    levels: how many levels of the pyramids in `targets` are kept; the finest go first.
    precision: the place among `bnas.space.PRECISIONS` of what the module that is the target is quantized to; the
        last stands for the original network where it is FP32.
    """

    name: str
    dim: str
    values: tuple[int, ...]
    targets: tuple[str, ...] = ()
    pattern: str = field(default="first", metadata={"plain": "unless default"})


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """All subnets of a super-network. Every combination of values is valid: sampling needs no repair."""

    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        problems = [
            f"{choice.name}: values must ascend and not be empty, got {list(choice.values)}"
            for choice in self.choices
            if not choice.values
            or any(a >= b for a, b in zip(choice.values, choice.values[1:], strict=False))
        ]
        problems += [
            f"{name}: this choice occurs more than once"
            for name, times in Counter(choice.name for choice in self.choices).items()
            if times > 1
        ]
        if problems:
            raise SpaceError("; ".join(problems))

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

        The indices of all choices come from one call of `rng.integers`, so that the same generator gives the
        same config of the same space, whatever was drawn of other spaces before.

        Args:
            open: maps a dimension to how many of its largest values may be drawn (0: all); dimensions that it
                does not name stay at their largest value. None opens everything.
        """
        low = self._none if open is None else self._lowest(open)
        drawn = rng.integers(low, self._counts).tolist()
        values = zip(self.choices, drawn, strict=True)
        return SubnetConfig({choice.name: choice.values[index] for choice, index in values})

    @cached_property
    def _none(self) -> NDArray[np.int64]:
        return np.zeros(len(self.choices), dtype=np.int64)

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        return np.array(self.bounds, dtype=np.int64)

    def _lowest(self, open: Mapping[str, int]) -> NDArray[np.int64]:
        """Index of the smallest open value of each choice."""
        if unknown := set(open) - set(self.dims):
            name = min(unknown)
            raise SpaceError(
                f"{name}: no such elastic dimension in this space{did_you_mean(name, self.dims)}"
            )
        return np.array(
            [
                max(len(choice.values) - (open.get(choice.dim, 1) or len(choice.values)), 0)
                for choice in self.choices
            ],
            dtype=np.int64,
        )

    @cached_property
    def _pairs(self) -> frozenset[tuple[str, int]]:
        return frozenset((choice.name, value) for choice in self.choices for value in choice.values)

    def validate(self, config: SubnetConfig) -> None:
        """Raise SpaceError unless `config` gives exactly one allowed value to every choice."""
        try:
            if len(config) == len(self.choices) and config.items() <= self._pairs:
                return
        except TypeError:  # a value that is no number
            pass
        for name, value in config.items():
            choice = self.choice_by_name.get(name)
            if choice is None:
                raise SpaceError(
                    f"{name}: no such choice in this space{did_you_mean(name, self.choice_by_name)}"
                )
            if value not in choice.values:
                raise SpaceError(f"{name}: {value} is not one of {', '.join(map(str, choice.values))}")
        missing = [choice.name for choice in self.choices if choice.name not in config.values]
        raise SpaceError(
            f"{missing[0]}: the subnet gives no value ({len(missing)} of {len(self.choices)} missing)"
        )

    def encode(self, config: SubnetConfig) -> tuple[int, ...]:
        """The index of each value among its choice's values, in order of the choices."""
        self.validate(config)
        values = config.values
        return tuple([choice.values.index(values[choice.name]) for choice in self.choices])

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
