"""Search: from a space and an evaluation of subnets to the Pareto front among those evaluated."""

from bnas.callable_package import make_callable
from bnas.search.front import Box, Candidate, ParetoFront, hypervolume, non_dominated
from bnas.search.objectives import OBJECTIVES, Objective
from bnas.search.proposals import Algorithm, Proposals, SearchConfig
from bnas.search.search import SEARCHES, Evaluate, search

__all__ = [
    "OBJECTIVES",
    "SEARCHES",
    "Algorithm",
    "Box",
    "Candidate",
    "Evaluate",
    "Objective",
    "ParetoFront",
    "Proposals",
    "SearchConfig",
    "hypervolume",
    "non_dominated",
    "search",
]

make_callable(__name__)
