"""Ridge regression on where each choice stands, on each of its values and on the subnet's size."""

from __future__ import annotations

import numpy as np

from bnas.search.algorithms.linas.surrogates.encoding import Array, Features, Standardized
from bnas.search.algorithms.linas.surrogates.posterior import Surrogate, posterior

PENALTIES = 10.0 ** np.arange(-4, 3.5, 0.5)


def fit_ridge(features: Features, values: Array, errors: Array) -> Surrogate:
    """Of all penalties that with the least squared error of each subnet left out (Allen's PRESS, 1974)."""
    design = _Design(features)
    columns = design(features)
    away = values - values.mean()
    spread, directions = np.linalg.eigh(columns @ columns.T)
    turned = directions.T @ away
    lost = []
    for penalty in PENALTIES:
        inverse = 1 / (np.maximum(spread, 0) / penalty + 1)
        left_out = (directions @ (inverse * turned)) / (directions**2 @ inverse)
        lost.append(float(np.mean(left_out**2)))
    weight = 1 / PENALTIES[int(np.argmin(lost))]
    return posterior(
        "ridge",
        lambda a, b: weight * (design(a) @ design(b).T),
        lambda a: weight * (design(a) ** 2).sum(axis=1),
        features,
        values,
        np.ones(len(values)),
    )


class _Design:
    """Columns of about equal length per part, with a constant that is hardly penalised."""

    def __init__(self, seen: Features) -> None:
        self._totals, self._groups = Standardized(seen.totals), Standardized(seen.groups)

    def __call__(self, features: Features) -> Array:
        totals = self._totals(features.totals)
        return np.hstack(
            [
                np.full((len(features), 1), 10.0),
                totals,
                0.3 * (totals**2 - 1),
                0.3 * self._groups(features.groups),
                features.positions,
                features.levels,
            ]
        )
