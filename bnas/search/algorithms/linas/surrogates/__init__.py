"""Surrogates: what a subnet's values would be, with standard errors, from those that were evaluated."""

from bnas.search.algorithms.linas.surrogates.choose import LEAST, SURROGATES, best_surrogate
from bnas.search.algorithms.linas.surrogates.encoding import Array, Codes, Encoding, Features, Rows
from bnas.search.algorithms.linas.surrogates.gaussian_process import fit_gaussian_process
from bnas.search.algorithms.linas.surrogates.posterior import Surrogate
from bnas.search.algorithms.linas.surrogates.ridge import fit_ridge

__all__ = [
    "LEAST",
    "SURROGATES",
    "Array",
    "Codes",
    "Encoding",
    "Features",
    "Rows",
    "Surrogate",
    "best_surrogate",
    "fit_gaussian_process",
    "fit_ridge",
]
