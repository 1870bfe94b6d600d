"""The three versions beside what the reference says each of them holds, and the way back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bnas.errors import ExportError
from bnas.export.encodings import VERSIONS, Encoded, Encoding, read, written, written_by_module

OPTIONS = {
    "scheme": "tf", "activation_bits": 8, "weight_bits": 8, "activation_form": "int", "weight_symmetry": "symmetric",
    "per_channel": True,
}  # fmt: skip
ACTIVATION = Encoding(name="/relu/Relu_output_0", scale=(0.5,), offset=(-3,))
HALF = Encoding(name="half", bits=16, form="float")
WEIGHT = Encoding(name="conv.weight", symmetric=True, scale=(0.25, 0.125), offset=(-128, -128), axis=1)
STRICT = Encoding(name="fc.weight", symmetric=True, strict=True, scale=(0.5,), offset=(-127,))
BIAS = Encoding(
    name="conv.bias", bits=32, symmetric=True, scale=(0.125, 0.0625), offset=(-(2**31),) * 2, axis=0
)
ENCODED = Encoded(
    network=None, state={}, activations=(ACTIVATION, HALF), parameters=(WEIGHT, STRICT, BIAS),
    moved={"/flat/Flatten_output_0": ACTIVATION.name}, modules={"relu": {"output": ACTIVATION.name}}, images=1,
    options=OPTIONS,
)  # fmt: skip
AXES = {"conv.weight": 1, "conv.bias": 0}
PRODUCER = {"package", "version"}
ARGUMENTS = {
    "activation_bitwidth": 8, "param_bitwidth": 8, "dtype": "int", "is_symmetric": True,
    "per_channel_quantization": True, "quant_scheme": "min_max",
}  # fmt: skip


def data(version: Any) -> dict[str, Any]:
    found = json.loads(json.dumps(written(ENCODED, version)))
    assert found.pop("version") == version
    assert set(found.pop("producer")) == PRODUCER
    return found


def test_0_6_1() -> None:
    entry = {
        "bitwidth": 8, "dtype": "int", "is_symmetric": "False", "max": 126.0, "min": -1.5, "offset": -3, "scale": 0.5
    }  # fmt: skip
    found = data("0.6.1")
    assert found["activation_encodings"] == {
        "/relu/Relu_output_0": [entry], "half": [{"bitwidth": 16, "dtype": "float"}]
    }  # fmt: skip
    weights = found["param_encodings"]["conv.weight"]
    assert [(own["is_symmetric"], own["min"], own["max"], own["offset"]) for own in weights] == [
        ("True", -32.0, 31.75, -128), ("True", -16.0, 15.875, -128)
    ]  # fmt: skip
    (strict,) = found["param_encodings"]["fc.weight"]
    assert (strict["min"], strict["max"], strict["offset"]) == (-63.5, 63.5, -127)
    bias = found["param_encodings"]["conv.bias"][0]
    assert (bias["bitwidth"], bias["offset"], bias["is_symmetric"]) == (32, -2147483648, "True")
    assert (found["excluded_layers"], found["quantizer_args"]) == ([], ARGUMENTS)
    assert len(found) == 4


def test_1_0_0() -> None:
    found = data("1.0.0")
    assert found["activation_encodings"] == [
        {
            "name": "/relu/Relu_output_0", "dtype": "INT", "bw": 8, "is_sym": False, "scale": [0.5], "offset": [-3],
            "enc_type": "PER_TENSOR",
        },
        {"name": "half", "dtype": "FLOAT", "bw": 16, "enc_type": "PER_TENSOR"},
    ]  # fmt: skip
    assert found["param_encodings"][0] == {
        "name": "conv.weight", "dtype": "INT", "bw": 8, "is_sym": True, "scale": [0.25, 0.125],
        "offset": [-128, -128], "enc_type": "PER_CHANNEL",
    }  # fmt: skip
    assert found["quantizer_args"] == ARGUMENTS


def test_2_0_0() -> None:
    found = data("2.0.0")
    assert found == {
        "encodings": [
            {"name": "conv.weight", "output_dtype": "int8", "y_scale": [0.25, 0.125], "axis": 1},
            {"name": "fc.weight", "output_dtype": "int8", "y_scale": 0.5},
            {"name": "conv.bias", "output_dtype": "int32", "y_scale": [0.125, 0.0625], "axis": 0},
            {"name": "/relu/Relu_output_0", "output_dtype": "uint8", "y_scale": 0.5, "y_zero_point": 3},
            {"name": "/flat/Flatten_output_0", "output_dtype": "uint8", "y_scale": 0.5, "y_zero_point": 3},
        ]
    }


def test_by_module() -> None:
    found = written_by_module(ENCODED)
    assert set(found["activation_encodings"]) == {"relu"}
    assert found["activation_encodings"]["relu"]["output"]["0"]["offset"] == -3
    assert set(found["param_encodings"]) == {
        "conv.weight",
        "fc.weight",
    }  # modules have no quantizer of biases
    (strict,) = found["param_encodings"]["fc.weight"]
    assert (strict["offset"], strict["min"], strict["max"]) == (-128, -64.0, 63.5)  # nor strict ones


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_read_is_what_was_written(version: Any) -> None:
    found = {own.name: own for own in read(written(ENCODED, version), AXES)}
    wanted = {own.name: own for own in (ACTIVATION, HALF, WEIGHT, STRICT, BIAS)}
    if version == "2.0.0":  # which has no float16, and no strict grids
        del wanted["half"], wanted["fc.weight"], found["fc.weight"]
        assert found.pop("/flat/Flatten_output_0").scale == ACTIVATION.scale
    assert found == wanted


def test_the_range_gives_the_scale_again_in_float32() -> None:
    rng, exact = np.random.default_rng(0), []
    for scale in rng.uniform(1e-4, 2, 200).astype(np.float32):
        for offset, bits in ((-int(rng.integers(0, 255)), 8), (-int(rng.integers(0, 65535)), 16)):
            own = Encoding(name="x", bits=bits, scale=(float(scale),), offset=(offset,))
            (entry,) = written(_only(own), "0.6.1")["activation_encodings"]["x"]
            width = np.float32(entry["max"]) - np.float32(entry["min"])
            exact.append(width / np.float32(own.steps) == scale)
            assert entry["min"] == pytest.approx(float(scale) * offset, rel=1e-6)
            assert entry["max"] == pytest.approx(float(scale) * (offset + own.steps), rel=1e-5, abs=1e-5)
    assert np.mean(exact) > 0.99


def _only(own: Encoding) -> Encoded:
    return Encoded(
        network=None,
        state={},
        activations=(own,),
        parameters=(),
        moved={},
        modules={},
        images=1,
        options=OPTIONS,
    )


def test_5_bits_are_no_integers_of_onnx() -> None:
    five = _only(Encoding(name="x", bits=5, scale=(0.5,), offset=(-3,)))
    with pytest.raises(ExportError, match=r"4, 8 and 16 bits, not of 5 \('x'\); take version 1.0.0"):
        written(five, "2.0.0")
    (own,) = read(written(five, "1.0.0"))
    assert own.bits == 5


def broken(version: str, **values: Any) -> dict[str, Any]:
    """A file whose one record of an activation `x` has `values` instead of its own."""
    record: dict[str, Any] = {"name": "x", **values}
    if version == "2.0.0":
        return {"version": version, "encodings": [{"output_dtype": "uint8", "y_scale": 0.5, **record}]}
    if version == "1.0.0":
        own = {
            "dtype": "INT",
            "bw": 8,
            "is_sym": False,
            "enc_type": "PER_TENSOR",
            "scale": [0.5],
            "offset": [-3],
        }
        return {"version": version, "activation_encodings": [own | record], "param_encodings": []}
    entry = {
        "bitwidth": 8,
        "dtype": "int",
        "is_symmetric": "False",
        "min": -1.5,
        "max": 126,
        "scale": 0.5,
        "offset": -3,
    }
    return {"version": version, "activation_encodings": {"x": [entry | values]}, "param_encodings": {}}


INF = float("inf")  # as JSON reads Infinity


@pytest.mark.parametrize(
    ("version", "values", "text"),
    [
        ("0.6.1", {"scale": 0}, "'x': expected scales above 0 in float32, got 0"),
        ("1.0.0", {"scale": [0]}, "'x': expected scales above 0 in float32, got 0"),
        ("2.0.0", {"y_scale": 0}, "'x': expected scales above 0 in float32, got 0"),
        ("0.6.1", {"scale": INF}, "'x': expected scales above 0 in float32, got inf"),
        ("1.0.0", {"scale": [float("nan")]}, "'x': expected scales above 0 in float32, got nan"),
        ("2.0.0", {"y_scale": -1e-50}, "'x': expected scales above 0"),
        ("0.6.1", {"offset": INF}, "the entry of 'x' is not of version 0.6.1: OverflowError"),
        ("1.0.0", {"offset": [INF]}, "the entry of 'x' is not of version 1.0.0: OverflowError"),
        ("2.0.0", {"y_zero_point": INF}, "the entry of 'x' is not of version 2.0.0: OverflowError"),
        ("0.6.1", {"bitwidth": 10**9}, "the entry of 'x' .* expected 1 to 32 bits, got 1000000000"),
        ("2.0.0", {"output_dtype": "float8e4m3"}, "the entry of 'x' is not of version 2.0.0"),
        (
            "1.0.0",
            {"scale": [0.5, 0.5]},
            "'x': expected a scale and an offset for all or for each channel, got 2 and 1",
        ),
        ("1.0.0", {"scale": [0.5] * 2, "offset": [0] * 2}, "'x': expected a scale and an offset for all"),
        ("1.0.0", {"name": ["x"]}, "expected a tensor's name"),
    ],
)
def test_numbers_that_are_no_grid(version: str, values: dict[str, Any], text: str) -> None:
    read(broken(version))
    with pytest.raises(ExportError, match=text):
        read(broken(version, **values))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"version": "3.0.0"}, "expected version 0.6.1, 1.0.0, 2.0.0, got '3.0.0'"),
        ({}, "got None"),
        ({"version": "1.0.0"}, "not of version 1.0.0: KeyError"),
        ({"version": "0.6.1", "activation_encodings": {"x": []}, "param_encodings": {}}, "IndexError"),
        ({"version": "2.0.0", "encodings": [{"name": "x", "output_dtype": "uint8"}]}, "y_scale"),
        (
            {
                "version": "1.0.0", "activation_encodings": [],
                "param_encodings": [{"name": "w", "dtype": "INT", "bw": 4, "enc_type": "LPBQ"}],
            },
            "'w' is LPBQ",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_read(given: Any, text: str) -> None:
    with pytest.raises(ExportError, match=text):
        read(given)
