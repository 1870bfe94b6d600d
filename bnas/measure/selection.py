"""Which subnets to time: few that say most about all the others.

`choose` needs no measurement. Latency is thought of as linear in what describes a subnet, with random coefficients;
then the variance that is left after some timings depends on which subnets were timed, not on what was found. The
next one is always that whose timing lowers the mean variance most (active learning of Cohn 1996, §4; a greedy
I-optimal design). `choose_unsure` takes those of which a fitted predictor is least sure. What it gains over drawing
at random, measured: docs/decisions/0010.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from bnas.space import SearchSpace, SubnetConfig

Array = NDArray[np.float64]
Describe = Callable[[SubnetConfig], Mapping[str, float]]
"""Numbers that latency depends on, as sums over a subnet's layers; a name that is missing stands for 0."""

POOL = 300  # random subnets to choose from, and as many of all sizes
_MEASURE = 4  # the place of measuring among the users of the run's seed
_HELD_OUT, _RANDOM, _ALL_SIZES, _REST = range(4)  # what is drawn, each by a generator of its own
_NOISE = 0.05  # variance of a timing, where that of latency among random subnets is about 1
_CHOICES = 0.7  # the weight of the choices beside that of what `describe` tells
_TILT = 3.0  # where subnets of all sizes are drawn, the extreme values' odds are exp(±2 × 3) at most


def random_subnets(space: SearchSpace, count: int, seed: int) -> tuple[SubnetConfig, ...]:
    """`count` different subnets drawn uniformly, to judge a predictor on; never the largest or the smallest.

    Fewer where the space has not as many.
    """
    ends = {space.largest, space.smallest}
    return _different(_random(space, seed, _HELD_OUT), ends, min(count, space.size - len(ends)))


def choose(
    space: SearchSpace,
    known: Sequence[SubnetConfig],
    count: int,
    *,
    seed: int,
    describe: Describe,
    without: Collection[SubnetConfig] = (),
) -> tuple[SubnetConfig, ...]:
    """The next `count` subnets to time after `known`: the largest, the smallest, then those that tell most.

    What comes next depends on the seed, on `without` and on which are known, not on `count`: a campaign that
    was interrupted goes on with the very subnets it would have taken. None of `without` (those held out) is
    chosen. Fewer where the space has not as many.
    """
    taken = {*known, *without}
    count = min(count, space.size - len(taken))
    chosen = [own for own in dict.fromkeys((space.largest, space.smallest)) if own not in taken][:count]
    if len(chosen) < count:
        pool = _pool(space, seed)
        design = _Design(space, pool, describe, [*known, *chosen])
        taken.update(chosen)
        free = np.array([own not in taken for own in pool])
        while len(chosen) < count and free.any():
            index = _best(design.gain(), free)
            free[index] = False
            chosen.append(pool[index])
            design.time(index)
    # A large campaign goes on with random ones after all of the pool.
    rest = _different(_random(space, seed, _REST), {*taken, *chosen}, count - len(chosen))
    return (*chosen, *rest)


def choose_unsure(
    space: SearchSpace,
    known: Sequence[SubnetConfig],
    count: int,
    *,
    seed: int,
    uncertainty: Callable[[Sequence[SubnetConfig]], Sequence[float] | Array],
    describe: Describe,
    without: Collection[SubnetConfig] = (),
) -> tuple[SubnetConfig, ...]:
    """The next `count` subnets to time: those of which a predictor is least sure, and that are unlike each other.

    `uncertainty` gives a number for each subnet, as the width of its error bar in per cent of the prediction.
    It counts the less for a subnet, the more the ones chosen before tell about that one. What is chosen depends
    on the seed, `without`, `known` and the uncertainties alone. Fewer where the space has not as many.
    """
    taken = {*known, *without}
    count = min(count, space.size - len(taken))
    pool = [own for own in _pool(space, seed, round=len(known)) if own not in taken] if count > 0 else []
    chosen: list[SubnetConfig] = []
    if pool:
        design = _Design(space, pool, describe, known)
        unsure, before = np.asarray(uncertainty(pool), dtype=float) ** 2, design.variance()
        free = np.ones(len(pool), dtype=bool)
        while len(chosen) < count and free.any():
            index = _best(unsure * design.variance() / before, free)
            free[index] = False
            chosen.append(pool[index])
            design.time(index)
    rest = _different(_random(space, seed, _REST), {*taken, *chosen}, count - len(chosen))
    return (*chosen, *rest)


class _Design:
    """Bayesian linear regression on descriptions, of which only variances are asked: no times are needed."""

    def __init__(
        self,
        space: SearchSpace,
        pool: Sequence[SubnetConfig],
        describe: Describe,
        known: Sequence[SubnetConfig],
    ) -> None:
        x = _described(space, [*pool, *known], describe, len(pool))
        self._x = x[: len(pool)]
        self._moment = self._x.T @ self._x / len(pool)
        self._covariance = np.eye(x.shape[1])  # of the coefficients
        for row in x[len(pool) :]:
            self._condition(row)

    def variance(self) -> Array:
        """Of each subnet of the pool: the variance of its predicted latency."""
        variance: Array = (self._x @ self._covariance * self._x).sum(axis=1)
        return variance

    def gain(self) -> Array:
        """Of each subnet of the pool: by how much its timing would lower the pool's mean variance."""
        along = self._x @ self._covariance
        gain: Array = (along @ self._moment * along).sum(axis=1) / ((along * self._x).sum(axis=1) + _NOISE)
        return gain

    def time(self, index: int) -> None:
        """Count a subnet of the pool as timed."""
        self._condition(self._x[index])

    def _condition(self, row: Array) -> None:
        along = self._covariance @ row
        self._covariance = self._covariance - np.outer(along, along) / (row @ along + _NOISE)


def _described(space: SearchSpace, subnets: Sequence[SubnetConfig], describe: Describe, count: int) -> Array:
    """A row for each subnet: 1, what `describe` tells, and the choices; of unit variance over the first `count`.

    Each of the two blocks is divided by the root of its number of columns, so that its length is about 1.
    """
    told = [describe(subnet) for subnet in subnets]
    names = sorted({name for row in told for name in row})
    by_sum = np.array([[row.get(name, 0.0) for name in names] for row in told])
    by_choice = np.array([space.encode(subnet) for subnet in subnets], dtype=float)
    blocks = [np.ones((len(subnets), 1))]
    for weight, block in ((1.0, by_sum), (_CHOICES, by_choice)):
        means, scales = block[:count].mean(axis=0), block[:count].std(axis=0)
        varies = scales > 1e-9 * np.abs(means)
        scaled = (block[:, varies] - means[varies]) / scales[varies]
        blocks.append(weight / np.sqrt(max(varies.sum(), 1)) * scaled)
    return np.concatenate(blocks, axis=1)


def _best(scores: Array, free: NDArray[np.bool_]) -> int:
    """The first of the free ones with the highest score; rounded, as sums differ in the last digits."""
    scores = np.where(free, scores, -1.0)
    return int(np.argmax(np.round(scores / max(scores.max(), 1e-300), 9)))


def _pool(space: SearchSpace, seed: int, *, round: int = 0) -> tuple[SubnetConfig, ...]:
    """Random subnets, whose sizes are all about the mean, and as many that are spread over the sizes."""
    drawn = islice(_random(space, seed, _RANDOM, round), POOL)
    spread = islice(_of_all_sizes(space, seed, round), POOL)
    return tuple(dict.fromkeys((*drawn, *spread)))


def _random(space: SearchSpace, seed: int, what: int, round: int = 0) -> Iterator[SubnetConfig]:
    rng = np.random.default_rng([seed, _MEASURE, what, round])
    while True:
        yield space.sample(rng)


def _of_all_sizes(space: SearchSpace, seed: int, round: int) -> Iterator[SubnetConfig]:
    """Subnets whose choices lean to small or to large values together, by a degree that is drawn anew for each."""
    rng = np.random.default_rng([seed, _MEASURE, _ALL_SIZES, round])
    while True:
        tilt = rng.uniform(-_TILT, _TILT)
        odds = [np.exp(tilt * np.linspace(-1, 1, bound)) for bound in space.bounds]
        yield space.decode([int(rng.choice(len(own), p=own / own.sum())) for own in odds])


def _different(
    drawn: Iterator[SubnetConfig], without: Collection[SubnetConfig], count: int
) -> tuple[SubnetConfig, ...]:
    """The first `count` different ones that are not in `without`; as many there must be."""
    found: dict[SubnetConfig, None] = {}
    while len(found) < count:
        if (subnet := next(drawn)) not in without:
            found[subnet] = None
    return tuple(found)
