"""The first generation: subnets of all sizes, as different from each other as can be."""

from __future__ import annotations

import numpy as np

from bnas.search.algorithms.linas.candidates import Candidates
from bnas.search.algorithms.linas.surrogates import Array, Codes, Rows
from bnas.search.proposals import fill
from bnas.space import SubnetConfig

POOL = 400  # random subnets that it is chosen from
TILT = 6.0  # the odds of a choice's largest value against its smallest are exp(±6) at most
NEAREST = 12  # of the pool in size, among which the most different is taken


def first_generation(candidates: Candidates, rng: np.random.Generator, size: int) -> tuple[SubnetConfig, ...]:
    """The problem's start, the ends of the space, and subnets at equal steps of size in between.

    Uniform and independent draws of all choices would nearly all be of middling size. Size is the first cheap
    objective, else the multiply-accumulates where they are known, else the sum of all choices.
    """
    problem = candidates.problem
    ends = (problem.space.largest, problem.space.smallest)
    first = [config for config in (*problem.start, *ends) if problem.allowed(problem.canonical(config))]
    chosen = list(dict.fromkeys(map(problem.canonical, first)))[:size]
    rows = np.unique(candidates.look(tilted(np.array(problem.space.bounds), rng, POOL)))
    rows = rows[candidates.broken(rows) == 0]
    taken = [candidates.row(config) for config in chosen]
    places = _spread(candidates, rows, taken, size - len(chosen))
    chosen += [candidates.configs[row] for row in places]
    return fill(problem, rng, size, chosen)


def tilted(bounds: Rows, rng: np.random.Generator, count: int) -> Codes:
    """[count, C] codes of random subnets of all sizes: each has odds of its own for large values."""
    places = np.arange(int(bounds.max(initial=1)))
    position = places / np.maximum(bounds - 1, 1)[:, None]
    odds = rng.uniform(-TILT, TILT, size=(count, 1, 1)) * position
    drawn = odds + rng.gumbel(size=(count, *position.shape))  # the largest sum is a draw by those odds
    return np.asarray(np.where(places < bounds[:, None], drawn, -np.inf).argmax(axis=-1), dtype=np.int64)


def _spread(candidates: Candidates, rows: Rows, taken: list[int], count: int) -> list[int]:
    """Rows at equal steps of size, each the farthest from all others among those of about that size."""
    found: list[int] = []
    sizes = _sizes(candidates, rows)
    positions = candidates.features(rows).positions
    others = candidates.features(np.array(taken, dtype=np.int64)).positions
    left = np.array([row not in set(taken) for row in rows.tolist()], dtype=bool)
    if not left.any() or count < 1:
        return found
    for wanted in np.linspace(sizes[left].min(), sizes[left].max(), count + 2)[1:-1]:
        if not left.any():
            break
        near = np.flatnonzero(left)
        near = near[np.argsort(np.abs(sizes[near] - wanted), kind="stable")[:NEAREST]]
        distances = ((positions[near, None] - others) ** 2).sum(axis=2).min(axis=1, initial=np.inf)
        best = int(near[distances.argmax()])
        found.append(int(rows[best]))
        left[best] = False
        others = np.vstack([others, positions[best]])
    return found


def _sizes(candidates: Candidates, rows: Rows) -> Array:
    names = candidates.encoding.names
    wanted = [goal.name for goal in candidates.problem.objectives] + ["macs"]
    known = next((name for name in wanted if name in names), None)
    if known is None:
        return np.asarray(candidates.features(rows).positions.sum(axis=1))
    return candidates.cheap(rows)[:, names.index(known)]
