"""The search loop: budget, log, progress and front, around an algorithm that only proposes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bnas import progress
from bnas.errors import ConfigError, did_you_mean
from bnas.search.evaluation_log import EvaluationLog, SearchBegun
from bnas.search.front import Candidate, ParetoFront, box, hypervolume, non_dominated, pareto_front
from bnas.search.nsga2 import nsga2
from bnas.search.objectives import Objective, check_objectives, check_values, costs
from bnas.search.proposals import Algorithm, SearchConfig
from bnas.search.random_search import random_search
from bnas.space import SearchSpace, SubnetConfig

Evaluate = Callable[[SubnetConfig], Mapping[str, float]]
"""Values of one subnet by name: every objective, and whatever else is worth keeping."""

SEARCHES: dict[str, Algorithm] = {"nsga2": nsga2, "random": random_search}

IDLE_GENERATIONS = 100  # without a single new subnet: the algorithm has nothing more to propose


def search(
    space: SearchSpace,
    objectives: Sequence[Objective],
    evaluate: Evaluate,
    config: SearchConfig | None = None,
    *,
    seed: int,
    log: Path | None = None,
    evaluator: str = "",
    predicted: Sequence[str] = (),
) -> ParetoFront:
    """Search `space` for the best trade-offs between two or more objectives.

    `config.evaluations` different subnets are evaluated, each once, fewer only when the space is smaller;
    first of all the largest and the smallest (they span the box of the hypervolume). With `log`, each
    evaluation is appended to that JSONL file as it comes; an interrupted search that is started again
    replays itself from the seed with the stored values, and ends with the result of an undisturbed one.
    A finished one goes on where it was when `config.evaluations` is raised.

    Args:
        evaluator: digest of all that `evaluate` depends on, so that a log of other weights is not continued.
        predicted: names of those values that `evaluate` predicts rather than measures.

    Raises:
        ConfigError: an unknown algorithm, fewer than two objectives.
        MeasureError: an evaluation without one of the objectives, or one that is not a finite number.
        RunError: `log` is damaged or belongs to another search.
    """
    config = config or SearchConfig()
    goals = check_objectives(objectives)
    if config.algorithm not in SEARCHES:
        raise ConfigError(
            f"search.algorithm: no search '{config.algorithm}'{did_you_mean(config.algorithm, SEARCHES)}"
        )
    stored = EvaluationLog(
        log,
        SearchBegun(space=space.digest, evaluator=evaluator, seed=seed, objectives=goals, config=config),
    )
    known: dict[SubnetConfig, Candidate] = {}

    def evaluated(subnet: SubnetConfig) -> Candidate:
        values = stored.answer(subnet)
        if values is None:
            values = check_values(goals, evaluate(subnet), subnet.digest)
            stored.append(subnet, values)
        known[subnet] = Candidate(config=subnet, values=values, predicted=tuple(predicted))
        return known[subnet]

    budget = min(config.evaluations, space.size)
    with progress.bar("search", total=budget) as step:
        largest = evaluated(space.largest)
        smallest = evaluated(space.smallest) if space.smallest != space.largest else largest
        corners = box(goals, largest, smallest)
        front = np.empty((0, len(goals)))
        history: list[float] = []

        def follow(candidate: Candidate) -> None:
            nonlocal front
            front = np.vstack([front, costs(goals, candidate.values)])
            front = front[non_dominated(front)]
            history.append(hypervolume(front, corners))
            best = (f"{goal.name} {goal.cost(front[:, i].min()):.4g}" for i, goal in enumerate(goals))
            step(note="  ".join((*best, f"hypervolume {history[-1]:.3f}")))

        for candidate in tuple(known.values()):
            follow(candidate)
        proposals = SEARCHES[config.algorithm](space, goals, config, seed)
        generation = next(proposals, ()) if len(known) < budget else ()
        idle = 0
        while generation and idle < IDLE_GENERATIONS:
            new = [subnet for subnet in dict.fromkeys(generation) if subnet not in known]
            for subnet in new[: budget - len(known)]:
                follow(evaluated(subnet))
            if len(known) == budget:
                break
            idle = 0 if new else idle + 1
            try:
                generation = proposals.send(tuple(known[subnet].values for subnet in generation))
            except StopIteration:
                break
    return pareto_front(goals, tuple(known.values()), history, corners)
