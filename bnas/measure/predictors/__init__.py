"""The kinds of latency predictors, and the baselines that they have to beat."""

from __future__ import annotations

from bnas.measure.predictors.base import Fit, Fitted
from bnas.measure.predictors.boosting import Boosting, fit_boosting
from bnas.measure.predictors.gaussian_process import GaussianProcess, fit_gaussian_process
from bnas.measure.predictors.linear import MacsLine, Ridge, fit_macs_line, fit_ridge
from bnas.measure.predictors.lookup import Lookup, fit_lookup
from bnas.measure.predictors.mlp import Mlp, fit_mlp

PREDICTORS: dict[str, Fit] = {  # the first is kept where another is not clearly better
    "gaussian_process": fit_gaussian_process,
    "ridge": fit_ridge,
    "boosting": fit_boosting,
    "mlp": fit_mlp,
}
BASELINES: dict[str, Fit] = {"macs_line": fit_macs_line, "lookup": fit_lookup}

__all__ = [
    "BASELINES",
    "PREDICTORS",
    "Boosting",
    "Fit",
    "Fitted",
    "GaussianProcess",
    "Lookup",
    "MacsLine",
    "Mlp",
    "Ridge",
]
