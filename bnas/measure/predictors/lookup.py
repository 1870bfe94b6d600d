"""A table of layers: the time of a subnet is the sum of its layers' (Cai et al. 2019, §3.2; a baseline).

Layers are not timed alone here: the table is found from whole subnets. Each kind of layer (same kind, channels,
positions, kernel, groups) has an entry, which is drawn towards what its MACs would cost, as most are seen rarely.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from bnas.measure.features import Signature, Table
from bnas.measure.predictors.base import LEAST_ERROR, Array, Fitted, positive
from bnas.measure.predictors.linear import fit_macs_line

_PENALTIES = np.logspace(-4, 4, 17)


@dataclass(frozen=True, kw_only=True)
class Lookup(Fitted):
    """time = intercept + slope × MACs + Σ the entry of each layer; layers not in the table have none."""

    kind: Literal["lookup"] = "lookup"
    intercept: float
    slope: float
    table: tuple[tuple[Signature, float], ...] = field(hash=False)
    least_ms: float
    error: float

    @property
    def needs_signatures(self) -> bool:
        return True

    @cached_property
    def _entries(self) -> Mapping[Signature, float]:
        return dict(self.table)

    def predict(self, table: Table) -> tuple[Array, Array]:
        own = [
            sum(self._entries.get(key, 0.0) * count for key, count in layers.items())
            for layers in table.signatures
        ]
        ms = positive(self.intercept + self.slope * table.macs + np.array(own), self.least_ms)
        return ms, np.full(len(ms), self.error)


def fit_lookup(table: Table, ms: Array, error: Array) -> Lookup:
    """Ridge on how often each layer occurs, beside the line through MACs; the penalty by leave-one-out."""
    line = fit_macs_line(table, ms, error)
    keys = sorted({key for layers in table.signatures for key in layers})
    place = {key: index for index, key in enumerate(keys)}
    counts = np.zeros((len(ms), len(keys)))
    for row, layers in enumerate(table.signatures):
        for key, count in layers.items():
            counts[row, place[key]] = count
    rows = counts / ms[:, None] * np.median(ms)
    rest = 1 - line.predict(table)[0] / ms
    gram = rows @ rows.T
    scale = np.trace(gram) / len(ms) or 1.0
    best: tuple[float, Array] | None = None
    for penalty in _PENALTIES:
        inverse = np.linalg.inv(gram / scale + penalty * np.eye(len(ms)))
        left_out = (inverse @ rest) / np.diag(inverse)
        score = float(np.abs(left_out).mean())
        if best is None or score < best[0]:
            best = score, rows.T @ (inverse @ rest) / scale
    assert best is not None
    score, entries = best
    return Lookup(
        intercept=line.intercept,
        slope=line.slope,
        table=tuple((key, float(entries[place[key]] * np.median(ms))) for key in keys),
        least_ms=line.least_ms,
        error=max(LEAST_ERROR, score),
    )
