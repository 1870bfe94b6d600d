"""Subnets of like cost: what the best or the worst is picked from in attentive sampling.

Wang et al. 2021, "AttentiveNAS: Improving Neural Architecture Search via Attentive Sampling" (arXiv 2011.09011),
section 3.2: draw a target cost from the search space's own distribution, then subnets of this cost, by rejection
from a distribution in which the choices are independent of each other once the cost is given. What differs:

- The cost is exact MACs, from facts. All subnets of a step have one resolution, drawn before the target (there
  each subnet has its own, drawn with the other choices); so each resolution has a pool.
- The pool is small, as it is made when a stage starts, not read from a file of a million subnets; so that its
  rarely seen costs have more than the subnets seen, each bin's frequencies also count one subnet of the pool
  as a whole.
- Which candidate performs best is told by its loss on the step's own batch of images, one of the two estimators
  that they compare (section 4.2), never by a predictor of accuracy.
- Where no draw hits the target, the closest one is taken; there it is the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnas.space import SearchSpace, SubnetConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

POOL = 2048  # random subnets
BINS = 24  # of equal width, from the lowest to the highest MACs in the pool
TRIALS = 50  # draws for one candidate


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What random subnets of each cost look like.

    lowest, span: MACs at which the first bin begins, and of all bins together.
    prior: share of the subnets that lie in each bin, cumulated: float64 [bins].
    values: share of each value of each choice among the subnets of a bin, cumulated over the values:
        float64 [bins, choices, most values].
    """

    space: SearchSpace
    macs: Callable[[SubnetConfig], int]
    lowest: int
    span: int
    prior: NDArray[np.float64]
    values: NDArray[np.float64]

    def bin_of(self, macs: int) -> int:
        """The bin of a cost; below 0, or from BINS on, where no subnet of the pool is."""
        return _bin(macs, self.lowest, self.span)

    def candidates(self, rng: np.random.Generator, count: int) -> tuple[SubnetConfig, ...]:
        """Subnets in one bin, drawn as the pool's subnets lie in bins; equal ones once, so at most `count`."""
        target = int(np.searchsorted(self.prior, rng.random(), side="right"))
        return tuple(dict.fromkeys(self._near(rng, target) for _ in range(count)))

    def _near(self, rng: np.random.Generator, target: int) -> SubnetConfig:
        middle = self.lowest + (target + 0.5) * self.span / BINS
        missed: dict[SubnetConfig, float] = {}
        chances = rng.random((TRIALS, len(self.space.choices), 1))
        for indices in (chances >= self.values[target]).sum(axis=2).tolist():
            subnet = self.space.decode(indices)
            macs = self.macs(subnet)
            if self.bin_of(macs) == target:
                return subnet
            missed[subnet] = abs(macs - middle)
        return min(missed, key=missed.__getitem__)


def make_pool(
    space: SearchSpace, draw: Callable[[], SubnetConfig], macs: Callable[[SubnetConfig], int]
) -> Pool:
    """A pool of POOL subnets from `draw`; a pure function of what it draws."""
    subnets = [draw() for _ in range(POOL)]
    costs = [macs(subnet) for subnet in subnets]
    lowest, span = min(costs), max(costs) - min(costs) + 1
    bins = np.array([_bin(cost, lowest, span) for cost in costs])
    indices = np.array([space.encode(subnet) for subnet in subnets])  # [subnets, choices]
    counts = np.zeros((BINS, len(space.choices), max(space.bounds)))
    for choice in range(len(space.choices)):
        np.add.at(counts[:, choice], (bins, indices[:, choice]), 1.0)
    counts += counts.sum(axis=0) / POOL
    cumulated = np.cumsum(counts, axis=2)
    share = np.bincount(bins, minlength=BINS) / POOL
    return Pool(
        space=space,
        macs=macs,
        lowest=lowest,
        span=span,
        prior=_to_one(np.cumsum(share)),
        values=_to_one(cumulated / cumulated[:, :, -1:]),
    )


def _bin(macs: int, lowest: int, span: int) -> int:
    return (macs - lowest) * BINS // span


def _to_one(cumulated: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rounding must not leave a chance for what comes after the last one."""
    cumulated[cumulated >= cumulated[..., -1:]] = 1.0
    return cumulated
