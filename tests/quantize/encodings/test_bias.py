"""Scales of biases, and of weights that are raised for them, by what fits into the integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bnas.export.encodings import Encoding
from bnas.quantize.encodings import Placement
from bnas.quantize.encodings.bias import bias_encodings, guarded
from bnas.quantize.encodings.placement import Layer

SOURCE = Encoding(name="x", scale=(0.02,), offset=(-3,))
TARGET = Encoding(name="y", scale=(0.05,), offset=(-100,))
WEIGHT = Encoding(name="w", symmetric=True, scale=(1 / 128, 1 / 1024, 1e-9), offset=(-128,) * 3, axis=0)
BIAS = np.array([1.0, -2.0, 30.0], np.float32)
LAYER = Layer(weight="w", bias="b", input="x", output="y")


def placement(*layers: Layer) -> Placement:
    return Placement(
        activations=("x", "y"), moved={"moved": "x"}, shared={}, together={}, layers=layers, modules={}
    )


def activations(*encodings: Encoding) -> dict[str, Encoding]:
    return {own.name: own for own in encodings}


@pytest.mark.parametrize("bits", [32, 31])
def test_a_bias_has_the_scale_of_the_accumulator(bits: int) -> None:
    (own,) = bias_encodings({"w": WEIGHT}, {"b": BIAS}, activations(SOURCE), placement(LAYER), bits)
    assert own.scale == pytest.approx([0.02 * scale for scale in WEIGHT.scale])
    assert (own.bits, own.symmetric, own.offset, own.axis) == (bits, True, (-(2 ** (bits - 1)),) * 3, 0)


@pytest.mark.parametrize("bits", [32, 31])
@pytest.mark.parametrize("target", [True, False])
def test_weights_scales_are_raised_until_the_bias_fits(bits: int, target: bool) -> None:
    known = activations(SOURCE, TARGET) if target else activations(SOURCE)
    raised = guarded({"w": WEIGHT}, {"b": BIAS}, known, placement(LAYER), bits)["w"]
    assert raised.scale[:2] == WEIGHT.scale[:2]  # these fit
    integers = np.abs(BIAS) / (0.02 * np.array(raised.scale))
    assert (np.abs(BIAS) / (0.02 * np.array(WEIGHT.scale)))[2] > 2 ** (bits - 1)
    assert (integers <= 2 ** (bits - 1)).all()
    if target:  # and with the zero point of the output taken off: 100 steps of 0.05
        assert np.abs(BIAS - 100 * 0.05).max() / (0.02 * raised.scale[2]) <= 2 ** (bits - 1)
        assert 0.02 * min(raised.scale) / 0.05 > 2**-24


def test_the_bias_fits_with_the_zero_point_of_the_output_taken_off() -> None:
    wide = replace(TARGET, bits=16, offset=(-40000,))  # 2000 below zero
    none = np.zeros(3, np.float32)
    raised = guarded({"w": WEIGHT}, {"b": none}, activations(SOURCE, wide), placement(LAYER), 32)["w"]
    assert 2000 / (0.02 * raised.scale[2]) == pytest.approx(2**31 - 2**15, rel=1e-6)


def test_one_scale_for_all_channels_fits_the_largest_bias() -> None:
    single = replace(WEIGHT, scale=(1e-9,), offset=(-128,), axis=None)
    raised = guarded({"w": single}, {"b": BIAS}, activations(SOURCE), placement(LAYER), 32)["w"]
    assert len(raised.scale) == 1
    assert 30 / (0.02 * raised.scale[0]) == pytest.approx(2**31 - 2**15, rel=1e-6)


def test_an_input_that_was_moved_has_the_encoding_of_what_was_moved() -> None:
    moved = placement(replace(LAYER, input="moved"))
    (own,) = bias_encodings({"w": WEIGHT}, {"b": BIAS}, activations(SOURCE), moved, 32)
    assert own.scale[0] == pytest.approx(0.02 / 128)


@pytest.mark.parametrize("source", [None, Encoding(name="x", bits=16, form="float")])
def test_without_integers_before_it_a_bias_has_a_range_of_its_own(source: Encoding | None) -> None:
    known = {} if source is None else {"x": source}
    (own,) = bias_encodings({"w": WEIGHT}, {"b": BIAS}, known, placement(LAYER), 32)
    assert own.axis is None
    assert own.scale == pytest.approx([30 / (2**31 - 1)])
    assert guarded({"w": WEIGHT}, {"b": BIAS}, known, placement(LAYER), 32) == {"w": WEIGHT}


def test_a_bias_that_two_calls_scale_differently_has_a_range_of_its_own() -> None:
    twice = placement(LAYER, replace(LAYER, input="y", output="z"))
    (own,) = bias_encodings({"w": WEIGHT}, {"b": BIAS}, activations(SOURCE, TARGET), twice, 32)
    assert own.axis is None
    same = placement(LAYER, replace(LAYER, output="z"))
    (own,) = bias_encodings({"w": WEIGHT}, {"b": BIAS}, activations(SOURCE), same, 32)
    assert own.axis == 0
