"""Numbers that latency depends on, from facts about a subnet's layers alone.

A layer's time is at least that of its arithmetic and that of moving its numbers (the roofline of Williams et al.
2009); a kernel does arithmetic in blocks of whole vectors, so that 17 channels cost as much as 32. Each layer
has the terms in `TERMS`. They are summed over a subnet, over its layers of one kind, and stand alone by layer,
where they tell what a table of layers would.

Where layers differ in precision, those that stay FP32 are of kinds of their own, and have a place of their own among
layers; where the precision changes from a layer to the next there is a conversion, of a kind of its own, of the
numbers that the second one reads. Both kinds of INT8 weights run alike, and are one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

from bnas.space import LayerCost

Array = NDArray[np.float64]
Signature = tuple[str, int, int, int, int, int]  # all that a table of layers tells layers apart by

TERMS = (
    "macs",
    "macs.padded_to_16",  # outputs in whole vectors of 16, inputs by 4: one INT8 dot product
    "macs.padded_to_64",  # outputs in blocks of four vectors
    "weights",
    "outputs",  # numbers written
    "outputs.ragged",  # those of layers whose outputs fill no whole vectors of 16: the last ones are masked
    "outputs.few_inputs",  # those of layers with fewer than 64 inputs, one row of a matrix unit's tile
    "inputs",  # numbers read
    "pointwise",  # applications of functions fused to the layer
    "bound_8",  # the larger of padded MACs and 8 × numbers moved: bound by arithmetic or by a near cache
    "bound_32",  # the same with 32: by a far cache or memory
    "layers",
)
_KINDS = ("pointwise", "spatial", "depthwise", "grouped", "vector", "matmul")
_FP32 = "fp32"  # the precision of a layer that is not as the hardware is asked to run networks
_CONVERSION = "conversion"
KINDS = (*_KINDS, *(f"{kind}_{_FP32}" for kind in _KINDS), _CONVERSION)
_MACS, _PADDED, _LAYERS = TERMS.index("macs"), TERMS.index("macs.padded_to_16"), TERMS.index("layers")


@dataclass(frozen=True)
class Table:
    """What predictors see of n subnets.

    `sums` (n, kinds, terms) over the layers of each kind; `layers` (n, names, terms) of each named layer;
    `signatures`: how often each subnet has which layer. `base_ms` (n,): what the model of other hardware predicts,
    where the predictor stands on one.
    """

    names: tuple[str, ...]
    sums: Array
    layers: Array
    signatures: tuple[Mapping[Signature, int], ...] = ()
    base_ms: Array | None = None

    def __len__(self) -> int:
        return len(self.sums)

    def on(self, base_ms: Array) -> Table:
        """The table with what the model of other hardware predicts, in milliseconds (n,)."""
        return replace(self, base_ms=base_ms)

    def __getitem__(self, rows: NDArray[np.intp] | slice) -> Table:
        return Table(
            self.names,
            self.sums[rows],
            self.layers[rows],
            tuple(np.array(self.signatures, dtype=object)[rows]) if self.signatures else (),
            None if self.base_ms is None else self.base_ms[rows],
        )

    @property
    def macs(self) -> Array:
        """(n,) multiply-accumulates."""
        return self.totals[:, _MACS]

    @property
    def totals(self) -> Array:
        """(n, terms): summed over all layers."""
        total: Array = self.sums.sum(axis=1)
        return total

    @property
    def columns(self) -> Array:
        """(n, terms + kinds × terms): the totals, then the sums by kind."""
        return np.hstack([self.totals, self.sums.reshape(len(self), len(KINDS) * len(TERMS))])

    @property
    def layer_columns(self) -> Array:
        """(n, names × terms): of each named layer."""
        return self.layers.reshape(len(self), len(self.names) * len(TERMS))


COLUMNS = (*TERMS, *(f"{kind}.{term}" for kind in KINDS for term in TERMS))  # names of `Table.columns`


@lru_cache(maxsize=100)
def layer_columns(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of `Table.layer_columns`, such as `layer1.0.conv1.macs`, of a table that tells these layers apart."""
    return tuple(f"{name}.{term}" for name in names for term in TERMS)


def tabulate(
    subnets: Sequence[Sequence[LayerCost]], names: Sequence[str] | None = None, *, signatures: bool = False
) -> Table:
    """The table of these subnets, given by their layers; `names` (None: all that occur) are told apart by name."""
    if names is None:
        names = tuple(
            dict.fromkeys(_name(layer) for layers in subnets for layer in layers if _kind(layer) is not None)
        )
    place = {name: index for index, name in enumerate(names)}
    rows, kinds, terms, own_rows, own_places, own = [], [], [], [], [], []
    for row, layers in enumerate(subnets):
        for layer in _with_conversions(layers):
            kind, values = _facts(layer)
            if kind < 0:
                continue
            rows.append(row)
            kinds.append(kind)
            terms.append(values)
            index = place.get(_name(layer))
            if index is not None:
                own_rows.append(row)
                own_places.append(index)
                own.append(values)
    sums = np.zeros((len(subnets), len(KINDS), len(TERMS)))
    alone = np.zeros((len(subnets), len(place), len(TERMS)))
    if terms:
        np.add.at(sums, (rows, kinds), np.array(terms))
    if own:
        np.add.at(alone, (own_rows, own_places), np.array(own))
    return Table(
        tuple(names), sums, alone, tuple(_signatures(layers) for layers in subnets) if signatures else ()
    )


def features(layers: Sequence[LayerCost]) -> dict[str, float]:
    """The sums of one subnet by name, such as `macs` and `depthwise.layers`; the same names for every subnet."""
    return dict(zip(COLUMNS, tabulate([layers], ()).columns[0].tolist(), strict=True))


def signature(layer: LayerCost) -> Signature:
    """What makes two layers cost the same."""
    kind = f"{layer.kind}_{_FP32}" if layer.precision == _FP32 else layer.kind
    return kind, layer.inputs, layer.outputs, layer.positions, layer.kernel, layer.groups


def _signatures(layers: Sequence[LayerCost]) -> dict[Signature, int]:
    counts: dict[Signature, int] = {}
    for layer in _with_conversions(layers):
        if _kind(layer) is not None:
            own = signature(layer)
            counts[own] = counts.get(own, 0) + 1
    return counts


def _with_conversions(layers: Sequence[LayerCost]) -> Sequence[LayerCost]:
    """`layers`, before each of another precision than the one before a conversion of what it reads."""
    if not any(layer.precision for layer in layers):
        return layers
    found: list[LayerCost] = []
    before: bool | None = None
    for layer in layers:
        if _kind(layer) is not None:
            whole = layer.precision == _FP32
            if before is not None and whole != before:
                found.append(_conversion(layer))
            before = whole
        found.append(layer)
    return found


@lru_cache(maxsize=10_000)
def _conversion(layer: LayerCost) -> LayerCost:
    positions = layer.input_positions or layer.positions
    return LayerCost(
        name=f"{layer.name}.{_CONVERSION}", kind=_CONVERSION, macs=0, parameters=0, weights=0, inputs=layer.inputs,
        outputs=layer.inputs, positions=positions, kernel=1, groups=1,
    )  # fmt: skip


def _name(layer: LayerCost) -> str:
    """By what a layer is told from others."""
    return f"{layer.name}.{_FP32}" if layer.precision == _FP32 else layer.name


def _kind(layer: LayerCost) -> str | None:
    """Which of `KINDS` a layer is; None: a norm, which folds into the convolution before it."""
    if layer.kind.endswith("norm"):
        return None
    if layer.kind == _CONVERSION:
        return _CONVERSION
    kind = _shape_kind(layer)
    return f"{kind}_{_FP32}" if layer.precision == _FP32 else kind


def _shape_kind(layer: LayerCost) -> str:
    if layer.kind == "matmul":
        return "matmul"
    if layer.groups > 1:
        return "depthwise" if layer.groups == layer.inputs else "grouped"
    if layer.positions == 1:  # one vector in, one out: bound by its weights
        return "vector"
    return "pointwise" if layer.kernel == 1 else "spatial"


@lru_cache(maxsize=100_000)
def _facts(layer: LayerCost) -> tuple[int, tuple[float, ...]]:
    """The place of its kind (−1: a norm) and its terms; layers recur among subnets, so they are remembered."""
    kind = _kind(layer)
    if kind is None:
        return -1, ()
    inputs, outputs = max(1, layer.inputs // layer.groups), max(1, layer.outputs)
    # FP32 numbers are multiplied one by one, depthwise layers have no inputs to add up.
    by_4 = 1.0 if layer.precision == _FP32 or kind == "depthwise" else _padding(inputs, 4)
    padded = layer.macs * by_4 * _padding(outputs, 16)
    written = layer.outputs * layer.positions
    read = layer.inputs * (layer.input_positions or layer.positions)
    moved = layer.weights + written + read
    return KINDS.index(kind), (
        float(layer.macs),
        padded,
        layer.macs * by_4 * _padding(outputs, 64),
        float(layer.weights),
        float(written),
        float(written * (layer.outputs % 16 > 0)),
        float(written * (inputs < 64)),
        float(read),
        float(written * len(layer.then)),
        max(padded, 8.0 * moved),
        max(padded, 32.0 * moved),
        1.0,
    )


def _padding(size: int, block: int) -> float:
    return ceil(size / block) * block / size
