"""Grids of numbers: from the range of a tensor to the scale and the offset of its encoding.

q = clamp(round(x / scale) − offset, 0, n) and x̂ = (q + offset)·scale, with n = 2^bits − 1 steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Symmetry = Literal["symmetric", "strict", "unsigned", "asymmetric"]
Array = np.ndarray[Any, np.dtype[Any]]

LEAST_SCALE = 2.0**-23  # a tensor that is all zero has a scale too


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How the numbers of a tensor's grid lie.

    `bits`: of the whole numbers. `symmetry`: "asymmetric", from least to greatest; "symmetric" about zero, with one
    step more below it (−128 to 127); "strict", with as many below as above (−127 to 127); "unsigned", from zero up
    where the tensor has nothing below it, else symmetric.
    """

    bits: int = 8
    symmetry: Symmetry = "asymmetric"

    @property
    def steps(self) -> int:
        """n: from the least number of the grid to the greatest."""
        return (1 << self.bits) - (2 if self.symmetry == "strict" else 1)

    def from_zero(self, low: Array) -> Array:
        """Whether the grid of a tensor whose least number is `low` starts at zero, although asked to be symmetric."""
        return np.logical_and(self.symmetry == "unsigned", low >= 0)

    def encoding(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Scales (in float32's numbers) and offsets of tensors, or channels, from `low` to `high`, arrays of one shape.

        Zero is taken into the range, and always is on the grid: an asymmetric grid is moved by less than a step for it.
        """
        low, high = np.minimum(np.asarray(low, float), 0), np.maximum(np.asarray(high, float), 0)
        if self.symmetry != "asymmetric":
            return self._symmetric(low, high)
        missing = np.maximum(self.steps * LEAST_SCALE - (high - low), 0)
        low, high = low - missing / 2, high + missing / 2
        scale = _float32((high - low) / self.steps)
        return scale, -np.clip(np.rint(-low / scale), 0, self.steps).astype(int)

    def _symmetric(self, low: Array, high: Array) -> tuple[Array, Array]:
        unsigned = self.from_zero(low)
        above = np.where(unsigned, self.steps, self.steps // 2)
        scale = np.maximum(_float32(np.maximum(-low, high) / above), LEAST_SCALE)
        return scale, above - self.steps


def _float32(scale: Array) -> Array:
    """The nearest numbers that float32 has, so that whoever reads them computes with the same ones."""
    return scale.astype(np.float32).astype(np.float64)
