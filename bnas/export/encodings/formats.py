"""The three versions of an encodings file, as AIMET writes and reads them: Encoding to plain data and back.

0.6.1 keys lists by tensor and gives minimum and maximum as well; 1.0.0 has records; 2.0.0 has records in the words of
ONNX's QuantizeLinear, parameters and activations in one list, and none for float16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Literal

import numpy as np

from bnas.errors import ExportError
from bnas.export.encodings.encoding import Encoded, Encoding
from bnas.version import __version__

Version = Literal["0.6.1", "1.0.0", "2.0.0"]
VERSIONS: tuple[Version, ...] = ("0.6.1", "1.0.0", "2.0.0")
PRODUCER = {"package": "bnas", "version": __version__}
_MOST_BITS = 32  # of biases


def written(encoded: Encoded, version: Version) -> dict[str, Any]:
    """The plain data of `<name>.encodings`, keyed by tensors of the ONNX network."""
    if version == "2.0.0":
        own = {encoding.name: encoding for encoding in encoded.activations}
        moved = [
            replace(own[source], name=name) for name, source in encoded.moved.items()
        ]  # runtimes that take this version want a record for these, too
        integers = (x for x in (*encoded.parameters, *encoded.activations, *moved) if x.form == "int")
        return {
            "version": version,
            "producer": PRODUCER,
            "encodings": [_record_2(encoding) for encoding in integers],
        }
    shared: dict[str, Any] = {
        "version": version,
        "producer": PRODUCER,
        "excluded_layers": [],
        "quantizer_args": quantizer_args(encoded.options),
    }
    if version == "1.0.0":
        return {
            **shared,
            "activation_encodings": [_record_1(encoding) for encoding in encoded.activations],
            "param_encodings": [_record_1(encoding) for encoding in encoded.parameters],
        }
    return {
        **shared,
        "activation_encodings": {x.name: _entries(x) for x in encoded.activations},
        "param_encodings": {x.name: _entries(x) for x in encoded.parameters},
    }


def written_by_module(encoded: Encoded) -> dict[str, Any]:
    """The plain data of `<name>_torch.encodings`: entries of 0.6.1, of activations by module.

    Biases are left out, as modules have no quantizers for them, and what no single module makes. A strict grid has the
    number more that it lacks, as modules know no other.
    """
    own = {encoding.name: encoding for encoding in encoded.activations}
    weights = (
        replace(x, strict=False, offset=tuple(offset - 1 for offset in x.offset)) if x.strict else x
        for x in encoded.parameters
        if x.name.endswith(".weight")
    )
    return {
        "version": "0.6.1",
        "producer": PRODUCER,
        "excluded_layers": [],
        "quantizer_args": quantizer_args(encoded.options),
        "activation_encodings": {
            path: {side: {"0": _entries(own[tensor])[0]} for side, tensor in sides.items()}
            for path, sides in encoded.modules.items()
        },
        "param_encodings": {x.name: _entries(x) for x in weights},
    }


def quantizer_args(options: Any) -> dict[str, Any]:
    """What the file says of how its encodings came about."""
    schemes = {
        "tf": "min_max",
        "tf_enhanced": "post_training_tf_enhanced",
        "percentile": "post_training_percentile",
    }
    return {
        "activation_bitwidth": options["activation_bits"],
        "param_bitwidth": options["weight_bits"],
        "dtype": options["activation_form"],
        "is_symmetric": options["weight_symmetry"] != "asymmetric",
        "per_channel_quantization": options["per_channel"],
        "quant_scheme": schemes[options["scheme"]],
    }


def read(data: Any, parameters: Iterable[str] = ()) -> tuple[Encoding, ...]:
    """The encodings in the plain data of a file of any of the three versions.

    `parameters`: names of tensors whose encodings may differ along an axis, which the first two versions do not tell;
    it is their first, or for those in a mapping the one it gives.

    Raises:
        ExportError: another version, or an entry that is none of it, or no grid.
    """
    version = data.get("version") if isinstance(data, dict) else None
    if version not in VERSIONS:
        raise ExportError(f"expected version {', '.join(VERSIONS)}, got {version!r}")
    axes = parameters if isinstance(parameters, Mapping) else dict.fromkeys(parameters, 0)
    found: list[Encoding] = []
    name: Any = None
    try:
        for name, reader, own in _entries_of(data, version):
            if not isinstance(name, str):
                raise TypeError(f"expected a tensor's name, got {name!r}")
            found.append(reader(name, own, axes))
            name = None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        what = "it" if name is None else f"the entry of {name!r}"
        raise ExportError(f"{what} is not of version {version}: {type(error).__name__}: {error}") from error
    return tuple(found)


def _entries_of(
    data: Mapping[str, Any], version: Version
) -> Iterator[tuple[Any, Callable[..., Encoding], Any]]:
    """Of each entry the tensor, the function that reads it, and itself."""
    if version == "2.0.0":
        yield from ((record.get("name"), _from_record_2, record) for record in data["encodings"])
        return
    for kind in ("activation_encodings", "param_encodings"):
        if version == "1.0.0":
            yield from ((record.get("name"), _from_record_1, record) for record in data[kind])
        else:
            yield from ((name, _from_entries, own) for name, own in data[kind].items())


def _entries(encoding: Encoding) -> list[dict[str, Any]]:
    if encoding.form == "float":
        return [{"bitwidth": encoding.bits, "dtype": "float"}]
    return [
        {
            "bitwidth": encoding.bits,
            "dtype": "int",
            "is_symmetric": str(encoding.symmetric),
            **_range(scale, offset, encoding.steps),
            "offset": offset,
            "scale": scale,
        }
        for scale, offset in zip(encoding.scale, encoding.offset, strict=True)
    ]


def _range(scale: float, offset: int, steps: int) -> dict[str, float]:
    """Least and greatest number, in float32, so that (max − min) / steps is `scale` again, in float32, if it can be."""
    least, most = np.float32(scale * offset), np.float32(scale * (offset + steps))
    for low, high in product(_near(least), _near(most)):
        if np.float32((high - low) / np.float32(steps)) == np.float32(scale):
            return {"min": float(low), "max": float(high)}
    return {"min": float(least), "max": float(most)}


def _near(number: np.float32) -> tuple[np.float32, ...]:
    """`number` and, but for zero, those of float32 next to it."""
    return (number, *(np.nextafter(number, np.float32(way)) for way in (np.inf, -np.inf) if number))


def _from_entries(name: str, entries: Sequence[Mapping[str, Any]], axes: Mapping[str, int]) -> Encoding:
    first = entries[0]
    bits = _bits(first["bitwidth"])
    if first["dtype"] == "float":
        return Encoding(name=name, bits=bits, form="float")
    symmetric = first["is_symmetric"] == "True"
    return Encoding(
        name=name,
        bits=bits,
        symmetric=symmetric,
        strict=symmetric and _is_strict(first["offset"], bits),
        scale=tuple(float(entry["scale"]) for entry in entries),
        offset=tuple(int(entry["offset"]) for entry in entries),
        axis=axes.get(name, 0) if len(entries) > 1 else None,
    )


def _bits(given: Any) -> int:
    bits = int(given)
    if not 1 <= bits <= _MOST_BITS:
        raise ValueError(f"expected 1 to {_MOST_BITS} bits, got {bits}")
    return bits


def _is_strict(offset: int, bits: int) -> bool:
    """Whether a symmetric grid has as many numbers below zero as above it, by the number of those below."""
    return offset == 1 - (1 << (bits - 1))


def _record_1(encoding: Encoding) -> dict[str, Any]:
    if encoding.form == "float":
        return {"name": encoding.name, "dtype": "FLOAT", "bw": encoding.bits, "enc_type": "PER_TENSOR"}
    return {
        "name": encoding.name,
        "dtype": "INT",
        "bw": encoding.bits,
        "is_sym": encoding.symmetric,
        "scale": list(encoding.scale),
        "offset": list(encoding.offset),
        "enc_type": "PER_TENSOR" if encoding.axis is None else "PER_CHANNEL",
    }


def _from_record_1(name: str, record: Mapping[str, Any], axes: Mapping[str, int]) -> Encoding:
    bits = _bits(record["bw"])
    if record["dtype"] == "FLOAT":
        return Encoding(name=name, bits=bits, form="float")
    if record["enc_type"] not in ("PER_TENSOR", "PER_CHANNEL"):
        raise ValueError(f"'{name}' is {record['enc_type']}; known are PER_TENSOR and PER_CHANNEL")
    return Encoding(
        name=name,
        bits=bits,
        symmetric=bool(record["is_sym"]),
        strict=bool(record["is_sym"]) and _is_strict(record["offset"][0], bits),
        scale=tuple(map(float, record["scale"])),
        offset=tuple(map(int, record["offset"])),
        axis=axes.get(name, 0) if record["enc_type"] == "PER_CHANNEL" else None,
    )


def _record_2(encoding: Encoding) -> dict[str, Any]:
    # y_zero_point counts from the least number that the type can hold: int8 from -128, uint8 from 0
    bits = 32 if encoding.bits > 16 else encoding.bits
    if bits not in (4, 8, 16, 32):
        raise ExportError(
            f"encodings: version 2.0.0 has integers of 4, 8 and 16 bits, not of {bits} ('{encoding.name}'); "
            "take version 1.0.0"
        )
    lowest = 2 ** (encoding.bits - 1) if encoding.symmetric else 0
    zero = [-offset - lowest for offset in encoding.offset]
    if encoding.strict:  # which the type cannot tell: -127 to 127 of int8
        zero = [0] * len(zero)
    record: dict[str, Any] = {
        "name": encoding.name,
        "output_dtype": f"{'' if encoding.symmetric else 'u'}int{bits}",
        "y_scale": encoding.scale[0] if encoding.axis is None else list(encoding.scale),
    }
    if any(zero):
        record["y_zero_point"] = zero[0] if encoding.axis is None else zero
    if encoding.axis is not None:
        record["axis"] = encoding.axis
    return record


def _from_record_2(name: str, record: Mapping[str, Any], axes: Mapping[str, int]) -> Encoding:
    kind, scale = record["output_dtype"], record["y_scale"]
    signed, bits = not kind.startswith("u"), _bits(kind.removeprefix("u").removeprefix("int"))
    several = isinstance(scale, list)
    scales = tuple(map(float, scale if several else [scale]))
    zero = record.get("y_zero_point", 0)
    zeros = zero if isinstance(zero, list) else [zero] * len(scales)
    lowest = 2 ** (bits - 1) if signed else 0
    return Encoding(
        name=name,
        bits=bits,
        symmetric=signed and not any(zeros),
        scale=scales,
        offset=tuple(-int(zero) - lowest for zero in zeros),
        axis=int(record["axis"]) if several else None,
    )
