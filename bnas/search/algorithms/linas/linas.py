"""LINAS, lightweight iterative search (Cummings et al., 2022, arXiv 2205.10358, §3): predictors instead of evaluations.

Each round fits surrogates to all that was evaluated, searches on them by NSGA-II, and has those subnets evaluated which
promise most and those that are least known. Beyond the paper: what is known without evaluation is not predicted;
surrogates give errors, so that a generation is chosen as a whole; the first one holds subnets of all sizes.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from bnas.search.algorithms.linas.batch import Improvement, least_known, most_promising
from bnas.search.algorithms.linas.candidates import Candidates
from bnas.search.algorithms.linas.design import first_generation, tilted
from bnas.search.algorithms.linas.inner_search import Scored, evolve, survivors
from bnas.search.algorithms.linas.outlook import Outlook
from bnas.search.algorithms.linas.surrogates import LEAST, Array, Codes, Rows, best_surrogate
from bnas.search.config import SearchConfig
from bnas.search.problem import Problem
from bnas.search.proposals import SEARCH, Generation, Proposals, Values, fill
from bnas.space import SubnetConfig

FIRST = 20  # subnets of the first generation, at most
BATCH = 0.5  # of the population: each later generation
UNSURE = 0.1  # of a generation: the least known
INNER = 100  # subnets in a population of the inner search
GENERATIONS = 25  # of the inner search
ALL = 2000  # subnets of a space that is looked through rather than searched
HOPE = 1.0  # standard errors by which the inner search takes a value to be better than predicted
NEAR = 2.0  # standard errors by which a subnet may belong to the front
POOL = 200  # of what the inner search found, that a generation is chosen from
BEST = 100  # evaluated subnets that may be on the front
SAMPLES = 32  # of the unknown values of the pool
_QUANTILES = np.array([-1.5, -0.5, 0.5, 1.5])
_SAME = 1e-9  # relative difference at which a cheap value is what an evaluation gives

Told = dict[SubnetConfig, "Values | None"]  # what was proposed, and what came back


def linas(problem: Problem, config: SearchConfig, seed: int) -> Proposals:
    """Proposes generations in which no subnet was ever proposed before; ends when the space is exhausted.

    With each later one goes what the surrogates expect of it. `config.evaluations` does not bear upon the proposals.
    """
    candidates, bounds = Candidates(problem), np.array(problem.space.bounds, dtype=np.int64)
    rng = np.random.default_rng([seed, SEARCH, 0])
    generation = Generation(first_generation(candidates, rng, min(config.population, FIRST)))
    size = min(config.population, max(LEAST, round(BATCH * config.population)))
    population = tilted(bounds, rng, INNER)
    told: Told = {}
    while generation.subnets:
        answers = yield generation
        told |= dict(zip(generation.subnets, answers, strict=True))
        rng = np.random.default_rng([seed, SEARCH, 2, len(told)])
        outlook = _outlook(candidates, told)
        if outlook is None:  # too little came back to learn from
            generation = Generation(fill(problem, rng, size, seen=told))
            continue
        front = _Front(candidates, told)
        last, looked = _inner_search(outlook, np.vstack([candidates.codes(front.rows), population]), rng)
        rows = _chosen(outlook, front, last, looked, rng, size)
        subnets = fill(problem, rng, size, [candidates.configs[row] for row in rows], told)
        generation = Generation(subnets, outlook.expected([candidates.row(subnet) for subnet in subnets]))
        population = last.codes


def _outlook(candidates: Candidates, told: Told) -> Outlook | None:
    """Surrogates of all that needs one, fitted to what came back; None: that was too little."""
    problem, names = candidates.problem, candidates.encoding.names
    rows = np.array([candidates.row(subnet) for subnet in told], dtype=np.int64)
    failed = np.array([values is None for values in told.values()])
    found = [values for values in told.values() if values is not None]
    if len(found) < LEAST:
        return None
    features, cheap = candidates.features(rows[~failed]), candidates.cheap(rows[~failed])
    # Costs are foretold by other costs; what is traded against them is not (`Features.without_known`).
    sized = [goal.name for goal in problem.objectives if goal.direction == "min"]
    surrogates = {}
    unknown = [own.name for own in problem.constraints if own.name not in names]
    for name in dict.fromkeys((*(goal.name for goal in problem.objectives), *unknown)):
        if name in names:
            known = cheap[:, names.index(name)]
            values = np.array([own.get(name, value) for own, value in zip(found, known, strict=True)])
            if (np.abs(values - known) <= _SAME * np.abs(known)).all():
                continue
        else:
            values = np.array([own[name] for own in found])
        errors = np.array([own.get(f"{name}_error", 0.0) for own in found])
        own = features if name in sized else features.without_known()
        surrogates[name] = best_surrogate(own, values, errors)
    failure = None
    if failed.any():
        failure = best_surrogate(candidates.features(rows).without_known(), failed * 1.0)
    return Outlook(candidates=candidates, surrogates=surrogates, sized=sized, evaluated=rows, failure=failure)


class _Front:
    """The front of what was evaluated: `rows` [F], and the worst costs that count, `reference` [M]."""

    def __init__(self, candidates: Candidates, told: Told) -> None:
        problem = candidates.problem
        values = {
            subnet: {**problem.cheaply(subnet), **found}
            for subnet, found in told.items()
            if found is not None
        }
        costs = {subnet: problem.costs(found) for subnet, found in values.items()}
        broken = np.array([problem.violation(found) for found in values.values()])
        best = survivors(np.array(list(costs.values())), broken, BEST)
        self.rows: Rows = np.array([candidates.row(list(values)[place]) for place in best], dtype=np.int64)
        ends = [problem.canonical(end) for end in (problem.space.largest, problem.space.smallest)]
        corners = [costs[end] for end in ends] if all(end in costs for end in ends) else list(costs.values())
        self.reference: Array = np.max(corners, axis=0)


def _inner_search(outlook: Outlook, start: Codes, rng: np.random.Generator) -> tuple[Scored, Scored]:
    """The last population of a search on what is hoped for, and all that it looked at."""
    candidates, space = outlook.candidates, outlook.problem.space

    def score(codes: Codes) -> Scored:
        rows = np.unique(candidates.look(codes))
        costs, broken = outlook.hopeful(rows, HOPE)
        return Scored(rows=rows, codes=candidates.codes(rows), costs=costs, broken=broken)

    if space.size <= ALL:
        looked = score(np.array(list(product(*map(range, space.bounds))), dtype=np.int64))
        return looked.take(survivors(looked.costs, looked.broken, INNER)), looked
    bounds = np.array(space.bounds, dtype=np.int64)
    return evolve(start, score, bounds, rng, size=INNER, generations=GENERATIONS)


def _chosen(
    outlook: Outlook, front: _Front, last: Scored, looked: Scored, rng: np.random.Generator, count: int
) -> list[int]:
    """Rows of `count` subnets that were not evaluated: the most promising, and the least known near the front.

    Fewer where the inner search found no more.
    """
    axis, reference = outlook.axis, front.reference
    rows = looked.rows[~np.isin(looked.rows, outlook.evaluated)]
    rows = rows[outlook.candidates.broken(rows) == 0]
    if not len(rows):
        return []
    known, kept = outlook.hopeful(front.rows, 0.0)
    known = known[kept == 0]
    costs, possible = outlook.marginals(rows, _QUANTILES)
    gains = Improvement(known, reference, costs.mean(axis=0), axis=axis).gains(costs, possible)
    _, broken = outlook.hopeful(rows, NEAR)
    ordered = rows[
        np.lexsort((-gains, broken > 0))
    ]  # what can hardly be or be allowed comes last, whatever its promise
    spread = last.rows[np.isin(last.rows, rows)][: POOL // 2]
    pool = np.array(list(dict.fromkeys([*spread.tolist(), *ordered.tolist()]))[:POOL], dtype=np.int64)
    # What was evaluated with noise is not known either: the front is drawn together with what may extend it.
    both, first = np.append(pool, front.rows), len(pool)
    normal = rng.standard_normal((len(outlook.surrogates), SAMPLES, len(both)))
    samples, possible, covariances = outlook.samples(both, normal)
    improvement = Improvement(known[:0], reference, samples.mean(axis=0), axis=axis)
    for place in range(first, len(both)):
        improvement.add(samples[:, place], possible[:, place])
    unsure = round(UNSURE * count) if outlook.surrogates else 0
    taken = most_promising(improvement, samples[:, :first], possible[:, :first], count - unsure)
    best, broken = outlook.hopeful(pool, NEAR)
    beaten = (known[:, None] <= best).all(axis=2).any(axis=0)
    near = np.flatnonzero(~beaten & (broken == 0)).tolist()
    noises = [own.noise for own in outlook.surrogates.values()]
    taken += least_known(list(covariances.values()), noises, near, taken, unsure)
    chosen = [int(pool[place]) for place in taken]
    return list(dict.fromkeys([*chosen, *ordered.tolist()]))[:count]
