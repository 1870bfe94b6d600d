"""A small multi-layer perceptron on sums over layers, as a correction of a straight line through the MACs.

A few networks with one hidden layer are averaged; where they disagree the prediction is unsure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from bnas.measure.features import COLUMNS, Table
from bnas.measure.predictors.base import LEAST_ERROR, Array, Fitted, row_sums
from bnas.measure.predictors.linear import MacsLine, fit_macs_line

HIDDEN, NETWORKS, STEPS, DECAY = 16, 4, 60, 0.02
_FARTHEST = 3.0  # standard deviations beyond which features are cut: no wild guesses far from the data


@dataclass(frozen=True, kw_only=True)
class Mlp(Fitted):
    """log(time ÷ line) = scale × the mean over networks of out · tanh(hidden · x + bias) + direct · x.

    x are the logarithms of the features, standardised. hidden (networks × hidden, features + 1: the bias last);
    out (networks, hidden); direct (networks, features + 1).
    """

    kind: Literal["mlp"] = "mlp"
    line: MacsLine
    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    hidden: tuple[tuple[float, ...], ...]
    out: tuple[tuple[float, ...], ...]
    direct: tuple[tuple[float, ...], ...]
    scale: float
    error: float

    @cached_property
    def _arrays(self) -> tuple[list[int], Array, Array, Array, Array, Array]:
        arrays = (np.array(own) for own in (self.means, self.scales, self.hidden, self.out, self.direct))
        means, scales, hidden, out, direct = arrays
        return [COLUMNS.index(name) for name in self.features], means, scales, hidden, out, direct

    def predict(self, table: Table) -> tuple[Array, Array]:
        places, means, scales, hidden, out, direct = self._arrays
        x = _standard(table.columns[:, places], means, scales)
        active = np.tanh(row_sums(x[:, None, :] * hidden)).reshape(len(x), *out.shape)
        each = self.scale * (row_sums(active * out) + row_sums(x[:, None, :] * direct))
        mean = row_sums(each) / NETWORKS
        apart = row_sums((each - mean[:, None]) ** 2) / NETWORKS
        return self.line.predict(table)[0] * np.exp(mean), np.sqrt(self.error**2 + apart)


def fit_mlp(table: Table, ms: Array, error: Array) -> Mlp:
    """All networks at once by L-BFGS with weight decay, each from its own random start, which the fit fixes."""
    line = fit_macs_line(table, ms, error)
    logs = np.log1p(table.columns)
    kept = np.flatnonzero(logs.std(axis=0) > 1e-9)
    kept = kept if len(kept) else np.array([0])
    means = logs[:, kept].mean(axis=0)
    scales = np.maximum(logs[:, kept].std(axis=0), 1e-9)
    x = torch.from_numpy(_standard(table.columns[:, kept], means, scales))
    rest = np.log(ms / line.predict(table)[0])
    scale = max(float(rest.std()), 1e-6)
    target = torch.from_numpy(rest / scale)
    generator = torch.Generator().manual_seed(0)
    width = x.shape[1]

    def start(*shape: int, fan: float) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator, dtype=torch.float64) / fan).requires_grad_()

    hidden = start(NETWORKS, HIDDEN, width, fan=width**0.5)
    out = start(NETWORKS, HIDDEN, fan=4 * HIDDEN**0.5)
    direct = start(NETWORKS, width, fan=10 * width**0.5)
    optimizer = torch.optim.LBFGS([hidden, out, direct], max_iter=STEPS, line_search_fn="strong_wolfe")

    def networks() -> torch.Tensor:
        active = torch.tanh(torch.einsum("nf,khf->knh", x, hidden))
        return torch.einsum("knh,kh->kn", active, out) + direct @ x.T

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        decay = hidden.square().sum() + out.square().sum() + direct.square().sum()
        value: torch.Tensor = (networks() - target).square().mean(dim=1).sum() + DECAY * decay / len(
            ms
        ) ** 0.5
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        left = scale * (networks().mean(dim=0) - target).numpy()
    return Mlp(
        line=line,
        features=tuple(COLUMNS[place] for place in kept),
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        hidden=tuple(tuple(row) for row in hidden.detach().reshape(-1, width).tolist()),
        out=tuple(tuple(row) for row in out.detach().tolist()),
        direct=tuple(tuple(row) for row in direct.detach().tolist()),
        scale=scale,
        error=max(LEAST_ERROR, float(np.sqrt(np.mean(left**2)))),
    )


def _standard(columns: Array, means: Array, scales: Array) -> Array:
    """(n, features + 1): standardised logarithms, and a 1 for the bias."""
    x = np.clip((np.log1p(columns) - means) / scales, -_FARTHEST, _FARTHEST)
    return np.column_stack([x, np.ones(len(x))])
