"""Biases as integers of the accumulator they are added to, and scales of weights large enough for them not to overflow.

A bias has the scale s_input·s_weight of each channel, so that adding it needs no rescaling, and zero as zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bnas.export.encodings import Encoding
from bnas.quantize.encodings.grids import Array
from bnas.quantize.encodings.placement import Layer, Placement

LEAST_SCALE = 2.3e-12  # of a bias on a grid of its own
_LEAST_RATIO = 2.0**-23.5  # of the scales of accumulator and output: integer kernels shift by no more


def guarded(
    weights: Mapping[str, Encoding],
    biases: Mapping[str, Array],
    activations: Mapping[str, Encoding],
    placement: Placement,
    bits: int,
) -> dict[str, Encoding]:
    """`weights` with scales raised where a bias would not fit into integers of `bits`, in steps of the accumulator.

    Nor does it with the output's zero point taken off, as kernels do; and no scale is so small that the one from the
    accumulator to the output is below what they compute with.
    """
    found = dict(weights)
    limit = 2.0 ** (bits - 1) - 2.0 ** (bits - 17)
    for layer in placement.layers:
        weight, source = found.get(layer.weight), _int_of(activations, placement.grid_of(layer.input))
        if weight is None or weight.form == "float" or source is None:
            continue
        scale = np.asarray(weight.scale)
        bias = biases[layer.bias].astype(float) if layer.bias is not None else np.zeros(1)
        least = np.abs(bias) / limit
        target = _int_of(activations, placement.grid_of(layer.output))
        if target is not None:
            zero = -target.offset[0] - (2 ** (target.bits - 1) if target.symmetric else 0)
            least = np.maximum(least, np.abs(bias - zero * target.scale[0]) / limit)
            least = np.maximum(least, _LEAST_RATIO * target.scale[0])
        least = least / source.scale[0]
        raised = np.maximum(scale, least if weight.axis is not None else least.max())
        if (raised > scale).any():
            found[layer.weight] = replace(weight, scale=tuple(map(float, raised.astype(np.float32))))
    return found


def bias_encodings(
    weights: Mapping[str, Encoding],
    biases: Mapping[str, Array],
    activations: Mapping[str, Encoding],
    placement: Placement,
    bits: int,
) -> list[Encoding]:
    """An encoding for each bias, symmetric, of `bits`.

    One whose layer's input or weights have no integers, or whose layers do not agree, has a grid of its own range.
    """
    users: dict[str, list[Layer]] = {}
    for layer in placement.layers:
        if layer.bias is not None:
            users.setdefault(layer.bias, []).append(layer)
    return [
        _bias(name, biases[name], _accumulators(layers, weights, activations, placement), bits)
        for name, layers in users.items()
    ]


def _accumulators(
    layers: Sequence[Layer],
    weights: Mapping[str, Encoding],
    activations: Mapping[str, Encoding],
    placement: Placement,
) -> list[tuple[float, ...] | None]:
    """The scales of what each layer adds up; None: it has none."""
    found: list[tuple[float, ...] | None] = []
    for layer in layers:
        source, weight = _int_of(activations, placement.grid_of(layer.input)), weights.get(layer.weight)
        known = source is not None and weight is not None and weight.form == "int"
        found.append(
            tuple(float(np.float32(source.scale[0] * own)) for own in weight.scale)
            if known and source is not None and weight is not None
            else None
        )
    return found


def _bias(name: str, bias: Array, scales: Iterable[tuple[float, ...] | None], bits: int) -> Encoding:
    first, *others = scales
    if first is None or any(own != first for own in others):
        first = (max(float(np.abs(bias).max()) / (2 ** (bits - 1) - 1), LEAST_SCALE),)
    return Encoding(
        name=name,
        bits=bits,
        symmetric=True,
        scale=first,
        offset=(-(2 ** (bits - 1)),) * len(first),
        axis=0 if len(first) > 1 else None,
    )


def _int_of(activations: Mapping[str, Encoding], name: str | None) -> Encoding | None:
    encoding = None if name is None else activations.get(name)
    return encoding if encoding is not None and encoding.form == "int" else None
