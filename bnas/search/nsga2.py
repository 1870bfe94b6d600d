"""NSGA-II (Deb et al., 2002) over integer vectors, by pymoo. The only file that imports pymoo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bnas.errors import require
from bnas.search.objectives import Objective, costs
from bnas.search.proposals import SEARCH, Proposals, SearchConfig, Values, fill, warm_start
from bnas.space import SearchSpace, SubnetConfig

MATINGS = 20  # how often parents may mate for new children before random subnets fill the generation


def nsga2(
    space: SearchSpace, objectives: tuple[Objective, ...], config: SearchConfig, seed: int
) -> Proposals:
    """Proposes generations in which no subnet was ever proposed before; ends when the space is exhausted.

    A subnet is the vector of the indices of its values, so that crossover and mutation know their order.

    Raises:
        MissingPackageError: pymoo is not installed.
    """
    rng = np.random.default_rng([seed, SEARCH, 0])
    generation = warm_start(space, rng, config.population)
    problem, algorithm = _algorithm(space, objectives, config, seed, generation)
    seen: dict[SubnetConfig, None] = {}
    algorithm.ask()  # the first call only sets pymoo up; the population it returns is `generation`
    while generation:
        seen |= dict.fromkeys(generation)
        values = yield generation
        algorithm.tell(infills=_evaluated(space, objectives, problem, generation, values))
        children: dict[SubnetConfig, None] = {}
        for _ in range(MATINGS):
            population = algorithm.ask()
            proposed = (space.decode([int(i) for i in vector]) for vector in population.get("X"))
            children |= {child: None for child in proposed if child not in seen}
            if len(children) >= config.population:
                break
        generation = fill(space, rng, config.population, children, seen)


def _algorithm(
    space: SearchSpace,
    objectives: tuple[Objective, ...],
    config: SearchConfig,
    seed: int,
    start: Sequence[SubnetConfig],
) -> tuple[Any, Any]:
    """pymoo's problem (bounds only) and NSGA-II, ready to be asked."""
    require("pymoo", "search")
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.config import Config
    from pymoo.core.problem import Problem
    from pymoo.core.termination import NoTermination
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair

    Config.show_compile_hint = False  # pymoo would print advice on how to install pymoo
    problem = Problem(
        n_var=len(space.bounds), n_obj=len(objectives), xl=0, xu=np.array(space.bounds) - 1, vtype=int
    )
    algorithm = NSGA2(
        pop_size=config.population,
        sampling=np.array([space.encode(subnet) for subnet in start]),
        crossover=SBX(
            prob=config.crossover_probability, eta=config.crossover_eta, vtype=float, repair=RoundingRepair()
        ),
        mutation=PM(
            prob=1.0,
            prob_var=config.mutation_probability or None,
            eta=config.mutation_eta,
            vtype=float,
            repair=RoundingRepair(),
        ),
        eliminate_duplicates=False,  # what was ever proposed is left out above, not only what still lives
        output=None,
    )
    pymoo_seed = int(np.random.SeedSequence([seed, SEARCH, 1]).generate_state(1)[0])
    algorithm.setup(problem, termination=NoTermination(), seed=pymoo_seed)
    return problem, algorithm


def _evaluated(
    space: SearchSpace,
    objectives: tuple[Objective, ...],
    problem: Any,
    generation: Sequence[SubnetConfig],
    values: Sequence[Values],
) -> Any:
    """The generation as pymoo's population, with its values set."""
    from pymoo.core.evaluator import Evaluator
    from pymoo.core.population import Population
    from pymoo.problems.static import StaticProblem

    population = Population.new(X=np.array([space.encode(subnet) for subnet in generation]))
    points = np.array([costs(objectives, v) for v in values])
    Evaluator().eval(StaticProblem(problem, F=points), population)
    return population
