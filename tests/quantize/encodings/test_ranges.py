"""Ranges beside plain NumPy, and the search beside one that tries everything."""

from __future__ import annotations

import numpy as np
import pytest

from bnas.quantize.encodings import Grid, MinMax, Percentile, Sqnr
from bnas.quantize.encodings.ranges import BINS, candidates, cost, observer

BATCHES = [np.random.default_rng(seed).normal(0.5, 1, (2, 3, 8, 8)).astype(np.float32) for seed in range(4)]
ALL = np.concatenate([batch.ravel() for batch in BATCHES])


def seen(own: MinMax, batches: list[np.ndarray] = BATCHES) -> MinMax:
    for batch in batches:
        own.observe(batch)
    return own


def error(x: np.ndarray, scale: float, offset: int, steps: int) -> float:
    """The mean squared error, with clipped numbers counting three times."""
    y = (np.clip(np.rint(x / scale) - offset, 0, steps) + offset) * scale
    beyond = (x < offset * scale) | (x > (offset + steps) * scale)
    return float(np.mean((x - y) ** 2 * np.where(beyond, 3, 1)))


@pytest.mark.parametrize("symmetry", ["asymmetric", "symmetric"])
def test_tf_is_the_range_of_all_batches(symmetry: str) -> None:
    grid = Grid(symmetry=symmetry)  # type: ignore[arg-type]
    scale, offset = grid.encoding(ALL.min(), ALL.max())
    assert seen(MinMax()).encoding(grid) == (scale, offset)


@pytest.mark.parametrize(
    ("percent", "shift", "ends"), [(75, 0, (0, 7)), (75, 5, (-3, 2)), (90, 5, (-5, 3)), (80, 2, (-1, 5))]
)
def test_a_percentile_of_ten_numbers_in_ten_bins(percent: float, shift: float, ends: tuple[int, int]) -> None:
    """One in each bin from 0 to 10. As AIMET's PercentileEncodingAnalyzer: the beginnings of the bins in which 100 - p
    and p per cent are reached.
    """
    own = Percentile(percent, bins=10, wider=1)
    own.observe(np.array([0, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 10]) - shift)
    assert own.counts.tolist() == [1] * 10
    scale, offset = own.encoding(Grid(bits=16))
    assert (scale * offset, scale * (offset + 2**16 - 1)) == pytest.approx(ends, abs=1e-3)


def test_a_percentile_of_100_is_the_range() -> None:
    grid = Grid()
    assert seen(Percentile(100)).encoding(grid) == seen(MinMax()).encoding(grid)


@pytest.mark.parametrize("percent", [99, 95, 60])
def test_a_percentile_is_numpys_to_the_width_of_a_bin(percent: float) -> None:
    own = seen(Percentile(percent))
    scale, offset = own.encoding(Grid(bits=16))
    width = 3 * float(np.ptp(BATCHES[0])) / BINS["percentile"]
    low, high = np.percentile(ALL, [100 - percent, percent])
    assert scale * offset == pytest.approx(min(low, 0), abs=2 * width)
    assert scale * (offset + 2**16 - 1) == pytest.approx(max(high, 0), abs=2 * width)


def test_numbers_beyond_the_first_tensors_histogram_are_counted_at_its_ends() -> None:
    own = seen(Sqnr(), [np.array([-1.0, 1.0]), np.array([-100.0, 100.0, 0.0])])
    assert isinstance(own, Sqnr)
    assert own.counts.sum() == 5
    assert (own.counts[0], own.counts[-1]) == (1, 1)
    assert (own.edges[0], own.edges[-1]) == (pytest.approx(-3), pytest.approx(3))


def test_a_histogram_lies_about_all_that_decides_what_it_covers() -> None:
    own = Sqnr()
    for x in (np.zeros(3), np.array([-1.0, 1.0]), np.array([0.5, 3.0])):
        own.cover(x)
    own.observe(np.zeros(3))
    assert (own.edges[0], own.edges[-1]) == (pytest.approx(-5), pytest.approx(7))
    own.observe(np.array([-4.9, 6.9]))
    assert (own.counts[0], own.counts[-1]) == (0, 0)


def test_one_number_alone_counts_as_a_range_of_1() -> None:
    own = seen(Percentile(99, wider=1), [np.full(5, 2.0)])
    assert isinstance(own, Percentile)
    assert (own.edges[0], own.edges[-1]) == (1.5, 2.5)


@pytest.mark.parametrize("symmetry", ["asymmetric", "symmetric", "strict"])
@pytest.mark.parametrize("bits", [4, 8])
def test_tf_enhanced_has_least_error_among_its_candidates(bits: int, symmetry: str) -> None:
    heavy = [np.random.default_rng(1).standard_t(3, 4000).astype(np.float32)]
    grid, own = Grid(bits=bits, symmetry=symmetry), seen(Sqnr(wider=1), heavy)  # type: ignore[arg-type]
    scale, offset = own.encoding(grid)
    found = error(heavy[0], scale, offset, grid.steps)
    low, high = float(heavy[0].min()), float(heavy[0].max())
    best = min(error(heavy[0], s, o, grid.steps) for s, o in zip(*candidates(grid, low, high), strict=True))
    assert found <= 1.1 * best  # it counts in bins, not numbers
    if bits == 4:
        assert found < 0.7 * error(heavy[0], *seen(MinMax(), heavy).encoding(grid), grid.steps)


def test_the_cost_is_the_error_of_each_number() -> None:
    numbers = np.linspace(-2, 3, 50)
    found = cost(numbers, np.ones(50), 15, 0.2, -4)
    assert found == pytest.approx(50 * error(numbers, 0.2, -4, 15))


@pytest.mark.parametrize(
    ("symmetry", "count"), [("asymmetric", 1 + 17 * 21), ("symmetric", 101), ("unsigned", 101)]
)
def test_as_many_candidates_as_aimet_has(symmetry: str, count: int) -> None:
    grid = Grid(symmetry=symmetry)  # type: ignore[arg-type]
    scales, offsets = candidates(grid, -1.0, 2.0)
    assert len(scales) == len(offsets) == count
    whole = grid.encoding(np.array(-1.0), np.array(2.0))
    assert any(
        scale == pytest.approx(whole[0]) and zero == whole[1]
        for scale, zero in zip(scales, offsets, strict=True)
    )


@pytest.mark.parametrize("scheme", ["tf", "tf_enhanced", "percentile"])
def test_a_constant_tensor_has_an_encoding(scheme: str) -> None:
    for value in (0.0, 2.0, -3.0, 0.0005, 0.0012):
        own = seen(observer(scheme, 99.9), [np.full(10, value, np.float32)])  # type: ignore[arg-type]
        scale, offset = own.encoding(Grid())
        assert error(np.array([value]), scale, offset, 255) <= 1e-5 * value**2
