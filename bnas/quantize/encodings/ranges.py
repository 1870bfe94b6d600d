"""Schemes: from all numbers that a tensor had on calibration images to the scale and the offset of its encoding.

Each observes tensors one after the other, or the channels of one, and keeps a few numbers of them: `MinMax` the least
and the greatest, the others a histogram.
"""

from __future__ import annotations

from itertools import product
from typing import Any, Literal

import numpy as np

from bnas.quantize.encodings.grids import LEAST_SCALE, Array, Grid

Scheme = Literal["tf", "tf_enhanced", "percentile"]

BINS = {"tf_enhanced": 512, "percentile": 2048}
FIRST = 32  # images that decide what a histogram covers; AIMET goes by its first batch, however large that is
WIDER = 3.0  # times the range of these: what it covers
CLIPPED = 3.0  # times: how much worse an error is of a number beyond the grid than of one within it


class MinMax:
    """The range from the least to the greatest number seen ("tf")."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def cover(self, x: Array) -> None:
        """Let `x` decide, with others, where numbers are counted, before any is observed; a range counts none."""

    def observe(self, x: Array) -> None:
        """Take in the numbers of one tensor, of any shape."""
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))

    def encoding(self, grid: Grid) -> tuple[float, int]:
        """Scale and offset."""
        return _single(grid, self.low, self.high)


class Histogram(MinMax):
    """Counts in `bins` of equal width; what lies beyond them is counted at the ends.

    They lie about the range of the tensors given to `cover` (of the activations of the first 32 images, see `FIRST`),
    or else of the first one observed; one number alone counts as a range of 1 about it, as in AIMET. `wider`: the
    width of all bins, in such ranges.
    """

    def __init__(self, bins: int, wider: float = WIDER) -> None:
        super().__init__()
        self.counts = np.zeros(bins)
        self._covered, self._wider = MinMax(), wider
        self._start, self._width = 0.0, 0.0

    def cover(self, x: Array) -> None:
        self._covered.observe(x)

    def observe(self, x: Array) -> None:
        super().observe(x)
        bins = len(self.counts)
        if not self._width:
            if self._covered.low > self._covered.high:  # nothing yet
                self.cover(x)
            low, high = self._covered.low, self._covered.high
            width = max(high - low, bins * LEAST_SCALE) if high > low else 1.0
            half = width / 2 * self._wider
            self._start, self._width = (low + high) / 2 - half, 2 * half / bins
        places = np.floor((x.ravel() - self._start) / self._width)
        self.counts += np.bincount(np.clip(places, 0, bins - 1).astype(int), minlength=bins)

    @property
    def edges(self) -> Array:
        """Where the bins begin, and the last one ends: one more than there are bins."""
        return self._start + self._width * np.arange(len(self.counts) + 1)


class Percentile(Histogram):
    """The range without the numbers beyond a percentile, and as many at the other end; 100: all of it.

    Both ends are where the bin begins in which the percentile is reached, as in AIMET.
    """

    def __init__(self, percent: float, bins: int = BINS["percentile"], wider: float = WIDER) -> None:
        super().__init__(bins, wider)
        self._part = percent / 100

    def encoding(self, grid: Grid) -> tuple[float, int]:
        if self._part == 1:
            return super().encoding(grid)
        totals = np.cumsum(self.counts)
        first, last = np.searchsorted(totals, totals[-1] * np.array([1 - self._part, self._part]))
        return _single(grid, max(self.edges[first], self.low), min(self.edges[last], self.high))


class Sqnr(Histogram):
    """The grid, of many, with the least mean squared error; one of a number beyond it counts three times."""

    def __init__(self, bins: int = BINS["tf_enhanced"], wider: float = WIDER) -> None:
        super().__init__(bins, wider)

    def encoding(self, grid: Grid) -> tuple[float, int]:
        filled = np.flatnonzero(self.counts)
        edges, counts = self.edges, self.counts[filled]
        low, high = min(edges[filled[0]], 0.0), max(edges[filled[-1] + 1], 0.0)
        # bins are wider than what is in them: nothing was seen beyond these
        low, high = max(low, min(self.low, 0.0)), min(high, max(self.high, 0.0))
        numbers = (edges[filled] + edges[filled + 1]) / 2
        scales, offsets = candidates(grid, low, high)
        costs = [
            float(cost(numbers, counts, grid.steps, scale, offset))
            for scale, offset in zip(scales, offsets, strict=True)
        ]
        best = int(np.argmin(costs))
        return float(scales[best]), int(offsets[best])


def cost(numbers: Array, counts: Array, steps: int, scale: float, offset: int) -> Any:
    """The sum of squared errors of `numbers`, each as often as `counts` says, on a grid."""
    places = np.rint(numbers / scale)
    beyond = (numbers < scale * offset) | (numbers > scale * (offset + steps))
    errors = (np.clip(places, offset, offset + steps) * scale - numbers) ** 2
    return (counts * errors * np.where(beyond, CLIPPED, 1.0)).sum()


def candidates(grid: Grid, low: float, high: float) -> tuple[Array, Array]:
    """Scales and offsets to choose from for numbers from `low` to `high`; the whole range is always among them.

    Asymmetric: 17 scales with 21 offsets each, cut to the range. Symmetric: 101 scales.
    """
    whole = _single(grid, low, high)
    if grid.symmetry != "asymmetric":
        scales = np.arange(1, 102) / 100 * whole[0]
        return np.maximum(scales.astype(np.float32), LEAST_SCALE), np.full(len(scales), whole[1])
    steps, largest = grid.steps, (high - low) / grid.steps
    parts = product(np.arange(1, 18) / 16, np.arange(21) / 20)
    ranges = [
        (-largest * k * round(steps * part), largest * k * (steps - round(steps * part))) for k, part in parts
    ]
    cut = [(max(least, low), min(most, high)) for least, most in ranges]
    lows, highs = np.array([(low, high), *cut]).T
    scales, offsets = grid.encoding(lows, highs)
    return scales, offsets


def observer(scheme: Scheme, percent: float, *, wider: float = WIDER) -> MinMax:
    """A new one of the scheme of this name."""
    if scheme == "tf_enhanced":
        return Sqnr(wider=wider)
    return Percentile(percent, wider=wider) if scheme == "percentile" else MinMax()


def _single(grid: Grid, low: float, high: float) -> tuple[float, int]:
    scale, offset = grid.encoding(np.array(low), np.array(high))
    return float(scale), int(offset)
