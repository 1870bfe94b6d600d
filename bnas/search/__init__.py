"""Search: from a space and an evaluation of subnets to the Pareto front among those evaluated."""

from bnas.callable_package import make_callable
from bnas.search.algorithms.table import SEARCHES
from bnas.search.ask_tell import AskTell
from bnas.search.config import SearchConfig
from bnas.search.constraints import Constraint, parse_constraints
from bnas.search.front import Box, Candidate, Failed, ParetoFront, Round, hypervolume, non_dominated
from bnas.search.objectives import OBJECTIVES, Objective, objective
from bnas.search.pool import Evaluate, Failure, Job, Pool
from bnas.search.problem import Cheap, Problem
from bnas.search.proposals import Algorithm, Expected, Generation, Proposals
from bnas.search.search import search

__all__ = [
    "OBJECTIVES",
    "SEARCHES",
    "Algorithm",
    "AskTell",
    "Box",
    "Candidate",
    "Cheap",
    "Constraint",
    "Evaluate",
    "Expected",
    "Failed",
    "Failure",
    "Generation",
    "Job",
    "Objective",
    "ParetoFront",
    "Pool",
    "Problem",
    "Proposals",
    "Round",
    "SearchConfig",
    "hypervolume",
    "non_dominated",
    "objective",
    "parse_constraints",
    "search",
]

make_callable(__name__)
