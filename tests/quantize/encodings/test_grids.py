"""Scales and offsets beside the formulas written out for one number at a time, and beside torch's fake quantization."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnas.export.encodings import Encoding
from bnas.quantize.encodings import Grid
from bnas.quantize.encodings.grids import LEAST_SCALE, Symmetry


def encoding(low: float, high: float, bits: int = 8, symmetry: Symmetry = "asymmetric") -> tuple[float, int]:
    scale, offset = Grid(bits=bits, symmetry=symmetry).encoding(np.array(low), np.array(high))
    return float(scale), int(offset)


def by_hand(low: float, high: float, bits: int, symmetry: str) -> tuple[float, int]:
    """The formulas, for numbers that are not too close together."""
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetry == "asymmetric":
        steps = 2**bits - 1
        scale = (high - low) / steps
        return scale, -min(max(round(-low / scale), 0), steps)
    if symmetry == "unsigned" and low == 0:
        return high / (2**bits - 1), 0
    positive = 2 ** (bits - 1) - 1
    scale = max(-low, high) / positive
    return scale, -positive if symmetry == "strict" else -positive - 1


@given(
    low=st.floats(-1000, 1000),
    width=st.floats(0.1, 1000),
    bits=st.integers(4, 16),
    symmetry=st.sampled_from(["asymmetric", "symmetric", "strict", "unsigned"]),
)
def test_scale_and_offset_are_those_of_the_formulas(
    low: float, width: float, bits: int, symmetry: Symmetry
) -> None:
    scale, offset = encoding(low, low + width, bits, symmetry)
    wanted, zero = by_hand(low, low + width, bits, symmetry)
    assert scale == pytest.approx(wanted, rel=1e-6)
    if (
        offset != zero
    ):  # of a half, either may come out: scales are rounded to float32, by 2^-24 of themselves
        assert symmetry == "asymmetric"
        assert abs(offset - zero) == 1
        assert abs(-low / wanted % 1 - 0.5) <= 2.0**bits * 2**-23


@pytest.mark.parametrize(
    ("low", "high", "bits", "offset"),
    [
        (-1, 2, 8, -85), (-1, 3, 8, -64), (-0.3, 1, 8, -59), (-2, -1, 8, -255), (1, 3, 8, 0), (-1, 2, 4, -5),
        (-0.5, 1.2, 4, -4), (-1, 3, 16, -16384), (-0.5, 14.5, 4, 0), (-1.5, 13.5, 4, -2), (-2.5, 12.5, 4, -2),
    ],
)  # fmt: skip
def test_zero_points(low: float, high: float, bits: int, offset: int) -> None:
    """85, 63.75, 58.8, 255, 0, 5, 4.4 and 16383.75 steps of the range lie below zero, then .5, 1.5 and 2.5."""
    assert encoding(low, high, bits)[1] == offset


def test_a_weight_of_resnet_as_aimet_encoded_it() -> None:
    scale, offset = encoding(-0.07, 0.08886, symmetry="symmetric")
    assert (scale, offset) == (pytest.approx(0.00069966, rel=1e-4), -128)
    assert (scale * offset, scale * (offset + 255)) == pytest.approx((-0.08956, 0.08886), rel=1e-4)


def test_zero_is_on_every_grid() -> None:
    for symmetry in ("asymmetric", "symmetric", "strict", "unsigned"):
        for low, high in ((-3, -1), (1, 3), (-1, 2), (0, 0)):
            scale, offset = encoding(low, high, symmetry=symmetry)  # type: ignore[arg-type]
            grid = scale * (offset + np.arange(256))
            assert 0 in grid
            assert scale >= LEAST_SCALE


def test_a_strict_grid_is_symmetric_to_the_last_number() -> None:
    scale, offset = encoding(-1, 0.5, symmetry="strict")
    own = Encoding(name="x", symmetric=True, strict=True, scale=(scale,), offset=(offset,))
    ends = own.fake_quantized(np.array([-9, 9], np.float32))
    assert ends[0] == -ends[1] == pytest.approx(-1)


def test_channels_are_encoded_at_once_as_one_by_one() -> None:
    lows, highs = np.array([-1.0, 0.2, -3]), np.array([2.0, 0.7, -1])
    scales, offsets = Grid(symmetry="unsigned").encoding(lows, highs)
    alone = [encoding(low, high, symmetry="unsigned") for low, high in zip(lows, highs, strict=True)]
    assert list(zip(scales, offsets, strict=True)) == alone
    assert offsets.tolist() == [-128, 0, -128]


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_fake_quantization_is_torchs(bits: int) -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(bits)) * 3
    scale, offset = encoding(-4, 5, bits)
    own = Encoding(name="x", bits=bits, scale=(scale,), offset=(offset,))
    wanted = torch.fake_quantize_per_tensor_affine(x, scale, -offset, 0, 2**bits - 1)
    np.testing.assert_allclose(own.fake_quantized(x.numpy()), wanted.numpy(), rtol=1e-6, atol=scale * 1e-4)


def test_fake_quantization_of_channels_is_torchs() -> None:
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    scales, offsets = Grid(symmetry="symmetric").encoding(x.numpy().min(0), x.numpy().max(0))
    own = Encoding(name="x", symmetric=True, scale=tuple(scales), offset=tuple(offsets), axis=1)
    zeros = torch.zeros(6, dtype=torch.int32)
    wanted = torch.fake_quantize_per_channel_affine(x, torch.tensor(scales).float(), zeros, 1, -128, 127)
    np.testing.assert_allclose(own.fake_quantized(x.numpy()), wanted.numpy(), rtol=1e-6, atol=1e-7)


def test_halves_go_to_the_even_number_or_up() -> None:
    own = Encoding(name="x", symmetric=True, scale=(1.0,), offset=(-128,))
    x = np.array([-1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    assert own.fake_quantized(x).tolist() == [-2, 0, 0, 2, 2]
    assert own.fake_quantized(x, half_up=True).tolist() == [-1, 0, 1, 2, 3]


def test_float16_is_torchs_half() -> None:
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    own = Encoding(name="x", bits=16, form="float")
    assert np.array_equal(own.fake_quantized(x.numpy()), x.half().float().numpy())
