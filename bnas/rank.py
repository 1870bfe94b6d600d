"""How alike two orders are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def kendall_tau(a: Array, b: Array) -> float:
    """Kendall's tau-b of two rankings: 1 the same order, −1 the opposite, 0 none (or one is constant)."""
    left = np.sign(np.subtract.outer(a, a))
    right = np.sign(np.subtract.outer(b, b))
    norm = np.sqrt((left**2).sum() * (right**2).sum())
    return float((left * right).sum() / norm) if norm else 0.0
