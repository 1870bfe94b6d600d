"""What the searches by pymoo share: the operators, the turn of the generations, what pymoo is told.

A subnet is the vector of the indices of its values, so that crossover and mutation know their order.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnas.errors import require
from bnas.search.config import SearchConfig
from bnas.search.front import Points
from bnas.search.problem import Problem
from bnas.search.proposals import SEARCH, Generation, Proposals, Values, fill, warm_start
from bnas.space import SubnetConfig

FAILED = 1e30  # by how much that breaks the constraints which could not be evaluated: more than all else
MATINGS = 20  # how often parents may mate for new children before random subnets fill the generation


@dataclass(frozen=True)
class Scale:
    """Costs as parts of the range that the first generation has, so that axes with different units compare."""

    ideal: Points
    length: Points

    def normal(self, costs: Sequence[float]) -> Points:
        scaled: Points = (np.array(costs) - self.ideal) / self.length
        return scaled


Make = Callable[[Scale, dict[str, Any]], Any]
"""(scale, arguments that all of pymoo's genetic algorithms take) -> one of them."""


def by_pymoo(problem: Problem, config: SearchConfig, seed: int, make: Make) -> Proposals:
    """Proposes generations in which no subnet was ever proposed before; ends when the space is exhausted.

    Constraints count as pymoo counts them: what keeps them comes before what does not (Deb 2000); what failed
    comes last.

    Raises:
        MissingPackageError: pymoo is not installed.
    """
    require("pymoo", "search")
    rng = np.random.default_rng([seed, SEARCH, 0])
    generation = warm_start(problem, rng, config.population)
    seen: dict[SubnetConfig, None] = {}
    algorithm = None
    while generation:
        seen |= dict.fromkeys(generation)
        answers = yield Generation(generation)
        if len(seen) == problem.space.size:
            return
        if algorithm is None:
            scale = _scale(problem, answers)
            algorithm = make(scale, _arguments(problem, config, generation))
            _set_up(algorithm, problem, seed)
        with warnings.catch_warnings():  # NSGA-III of pymoo 0.6.2 switches all warnings off, for good
            algorithm.tell(infills=_told(problem, algorithm.problem, scale, generation, answers))
            children: dict[SubnetConfig, None] = {}
            for _ in range(MATINGS):
                proposed = (problem.decode(vector) for vector in algorithm.ask().get("X"))
                children |= {
                    child: None for child in proposed if child not in seen and problem.allowed(child)
                }
                if len(children) >= config.population:
                    break
        generation = fill(problem, rng, config.population, children, seen)


def _scale(problem: Problem, answers: Sequence[Values | None]) -> Scale:
    count = len(problem.objectives)
    points = np.array([problem.costs(own) for own in answers if own is not None]).reshape(-1, count)
    if not len(points):
        return Scale(np.zeros(count), np.ones(count))
    length = points.max(axis=0) - points.min(axis=0)
    return Scale(points.min(axis=0), np.where(length > 0, length, 1.0))


def _arguments(problem: Problem, config: SearchConfig, start: Sequence[SubnetConfig]) -> dict[str, Any]:
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair

    return {
        "pop_size": config.population,
        "n_offsprings": config.population,
        "sampling": np.array([problem.space.encode(subnet) for subnet in start]),
        "crossover": SBX(
            prob=config.crossover_probability, eta=config.crossover_eta, vtype=float, repair=RoundingRepair()
        ),
        "mutation": PM(
            prob=1.0,
            prob_var=config.mutation_probability or None,
            eta=config.mutation_eta,
            vtype=float,
            repair=RoundingRepair(),
        ),
        "eliminate_duplicates": False,  # what was ever proposed is left out above, not only what still lives
        "output": None,
    }


def _set_up(algorithm: Any, problem: Problem, seed: int) -> None:
    """Give pymoo's algorithm its bounds and its seed, and ask it for the first time."""
    from pymoo.config import Config
    from pymoo.core.problem import Problem as Bounds
    from pymoo.core.termination import NoTermination

    Config.show_compile_hint = False  # pymoo would print advice on how to install pymoo
    bounds = Bounds(
        n_var=len(problem.space.bounds),
        n_obj=len(problem.objectives),
        n_ieq_constr=1,
        xl=0,
        xu=np.array(problem.space.bounds) - 1,
        vtype=int,
    )
    pymoo_seed = int(np.random.SeedSequence([seed, SEARCH, 1]).generate_state(1)[0])
    algorithm.setup(bounds, termination=NoTermination(), seed=pymoo_seed)
    algorithm.ask()  # only sets pymoo up; the population it returns is the first generation


def _told(
    problem: Problem,
    bounds: Any,
    scale: Scale,
    generation: Sequence[SubnetConfig],
    answers: Sequence[Values | None],
) -> Any:
    """The generation as pymoo's population, with its values set."""
    from pymoo.core.evaluator import Evaluator
    from pymoo.core.population import Population
    from pymoo.problems.static import StaticProblem

    population = Population.new(X=np.array([problem.space.encode(subnet) for subnet in generation]))
    nothing = np.zeros(len(problem.objectives))
    points = [nothing if own is None else scale.normal(problem.costs(own)) for own in answers]
    broken = [FAILED if own is None else problem.violation(own) for own in answers]
    static = StaticProblem(bounds, F=np.array(points), G=np.array(broken)[:, None])
    Evaluator().eval(static, population)
    return population
