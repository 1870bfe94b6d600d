"""Which surrogate: the one preferred, unless another foretells better."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnas.search.algorithms.linas.surrogates.encoding import Array, Features
from bnas.search.algorithms.linas.surrogates.gaussian_process import fit_gaussian_process
from bnas.search.algorithms.linas.surrogates.posterior import Surrogate
from bnas.search.algorithms.linas.surrogates.ridge import fit_ridge

Fit = Callable[[Features, Array, Array], Surrogate]
"""(features of n subnets, their values [n], standard errors of these [n]; 0: none are known) -> surrogate"""

# The one whose errors tell most comes first: ridge knows no products of choices, and so is too sure of itself.
SURROGATES: dict[str, Fit] = {"gaussian_process": fit_gaussian_process, "ridge": fit_ridge}

LEAST = 4  # evaluated subnets that a surrogate can be fitted to


def best_surrogate(features: Features, values: Array, errors: Array | None = None) -> Surrogate:
    """That of `SURROGATES` which foretells evaluated subnets best from the others (leave-one-out).

    One that comes before it in the table is kept where it is worse by no more than a standard error of the difference
    (Breiman et al. 1984, §3.4.3).
    """
    known = np.zeros(len(values)) if errors is None else errors
    fitted = [fit(features, values, known) for fit in SURROGATES.values()]
    squares = np.array([own.left_out**2 for own in fitted])
    best = int(squares.mean(axis=1).argmin())
    worse = squares - squares[best]
    within = worse.mean(axis=1) <= worse.std(axis=1) / np.sqrt(len(values))
    return fitted[int(np.flatnonzero(within)[0])]
