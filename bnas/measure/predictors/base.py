"""What every kind of latency predictor is: a function that fits, and plain data that predicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnas.measure.features import Table

Array = NDArray[np.float64]
LEAST_ERROR = 1e-3  # relative; no predictor is surer of itself


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted predictor: plain data that predicts with numpy alone.

    A subclass has a field `kind: Literal["…"] = "…"`, which names it in JSON, and `names`, those of the layers that
    it tells apart (empty: none).
    """

    names: tuple[str, ...] = ()

    @property
    def needs_signatures(self) -> bool:
        """Whether it reads a table's `signatures`."""
        return False

    def predict(self, table: Table) -> tuple[Array, Array]:
        """For each of the n subnets its time in milliseconds, and a relative standard error: (n,), (n,).

        The error needs no scale of its own: error bars are calibrated. It has to grow away from the data.
        """
        raise NotImplementedError


# Fits to a table of n subnets, their times in milliseconds (n,), and the relative standard error of each (n,).
Fit = Callable[[Table, Array, Array], Fitted]


def row_sums(products: Array) -> Array:
    """Sums over the last axis, in one order however many rows there are and however they lie in memory.

    No product of matrices does that: a search that goes on must predict the very numbers it predicted before.
    """
    sums: Array = np.ascontiguousarray(products).sum(axis=-1)
    return sums


def positive(ms: Array, least: float) -> Array:
    """No prediction is below `least`: sums with coefficients of both signs may fall under zero far from the data."""
    return np.maximum(ms, least)
