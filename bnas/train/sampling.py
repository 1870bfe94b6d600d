"""Which subnets a step trains, and every other random choice of the training, from (seed, stage, step) alone.

Nothing here, and nothing in the loop, draws from a generator that has a past; a training that is resumed at
step n therefore draws exactly what the undisturbed one does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, Literal
from zlib import crc32

import numpy as np

from bnas.space import RESOLUTION, SearchSpace, SubnetConfig, resolution_of
from bnas.train.attentive import Pool, make_pool

if TYPE_CHECKING:
    from bnas.train.stages import Stage

# The subnets of a step, in order; of each the candidates that the trainer picks one from (one: it is settled);
# None: a plain network, which is its own only subnet.
Draws = tuple[tuple[SubnetConfig | None, ...], ...]


class Place(IntEnum):
    """What a random number is for; different places never share their numbers."""

    ORDER = 1
    AUGMENT = 2
    SUBNET = 3
    DROPOUT = 4
    RECALIBRATE = 5
    MIX = 6
    WATCH = 7
    POOL = 8


def step_entropy(seed: int, stage: Stage | None, place: Place, step: int = 0) -> list[int]:
    """Seed sequence of one place in one step; the stage counts by its name, not by its position."""
    return [seed, int(place), crc32(stage.name.encode()) if stage else 0, step]


def step_seed(seed: int, stage: Stage | None, place: Place, step: int = 0) -> int:
    """`step_entropy` as one 32-bit number, for generators that take no more."""
    return int(np.random.SeedSequence(step_entropy(seed, stage, place, step)).generate_state(1)[0])


def make_sampler(
    space: SearchSpace, stage: Stage, seed: int, macs: Callable[[SubnetConfig], int]
) -> Callable[[int], Draws]:
    """The function from a step of a stage to the subnets that it trains; a pure function of the step.

    All subnets of a step, candidates too, have one resolution, drawn from the open ones; also the fixed ones of
    the sampling.

    Args:
        macs: multiply-accumulates of a subnet, for samplings that pick among subnets of like cost.
    """
    sampling = SAMPLINGS[stage.sampling]
    fixed = sampling.fixed(space, stage.dims)
    drawn = range(stage.subnets_per_step - len(fixed))

    @cache
    def pool(size: int | None) -> Pool:
        rng = np.random.default_rng(step_entropy(seed, stage, Place.POOL, size or 0))
        return make_pool(space, lambda: _at(space.sample(rng, open=stage.dims), size), macs)

    def uniform(step: int) -> Draws:
        rng = np.random.default_rng(step_entropy(seed, stage, Place.SUBNET, step))
        subnets = (*fixed, *(space.sample(rng, open=stage.dims) for _ in drawn))
        size = resolution_of(space.sample(rng, open=stage.dims))
        return tuple((_at(subnet, size),) for subnet in subnets)

    def attentive(step: int) -> Draws:
        rng = np.random.default_rng(step_entropy(seed, stage, Place.SUBNET, step))
        size = resolution_of(space.sample(rng, open=stage.dims))
        settled = tuple((_at(subnet, size),) for subnet in fixed)
        return (*settled, *(pool(size).candidates(rng, stage.candidates) for _ in drawn))

    return uniform if sampling.pick == "only" else attentive


def _at(subnet: SubnetConfig, size: int | None) -> SubnetConfig:
    """The subnet at a resolution; None: the space has no choice of it."""
    return subnet if size is None else SubnetConfig({**subnet.values, RESOLUTION: size})


def first_open(values: int, count: int | None) -> int:
    """Index of the smallest open one of `values` ascending values; count as in `Stage.dims`, None: closed."""
    if count is None:
        return values - 1
    return max(values - count, 0) if count else 0


def smallest_open(space: SearchSpace, dims: Mapping[str, int]) -> SubnetConfig:
    """The subnet with the smallest open value of every choice, when `dims` are open as in `Stage.dims`."""
    indices = (first_open(len(choice.values), dims.get(choice.dim)) for choice in space.choices)
    return space.decode(tuple(indices))


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Subnets that are in every step, as a function of the space and the open dims; the rest are drawn.

    fewest: the least `Stage.subnets_per_step` with which the sampling means something.
    has_largest: the largest subnet is in every step, as its first.
    pick: which of each drawn subnet's candidates is trained, by their loss on the step's batch: the one with the
        lowest or the highest; "only": there is one candidate, so none is picked.
    """

    fixed: Callable[[SearchSpace, Mapping[str, int]], tuple[SubnetConfig, ...]]
    fewest: int
    has_largest: bool
    pick: Literal["only", "lowest", "highest"] = "only"


def _ends(space: SearchSpace, dims: Mapping[str, int]) -> tuple[SubnetConfig, ...]:
    return space.largest, smallest_open(space, dims)


SAMPLINGS: dict[str, Sampling] = {
    # Independent uniform draws; alone they suffice (Shipard et al. 2022, random subnet sampling).
    "random": Sampling(fixed=lambda space, dims: (), fewest=1, has_largest=False),
    # The largest subnet as well, so that it is not forgotten.
    "largest": Sampling(fixed=lambda space, dims: (space.largest,), fewest=2, has_largest=True),
    # Yu & Huang 2019, "Universally slimmable networks and improved training techniques", section 3.1.
    "sandwich": Sampling(fixed=_ends, fewest=2, has_largest=True),
    # Wang et al. 2021, "AttentiveNAS": the sandwich, with drawn subnets near the Pareto front's best or worst side.
    "best_up": Sampling(fixed=_ends, fewest=3, has_largest=True, pick="lowest"),
    "worst_up": Sampling(fixed=_ends, fewest=3, has_largest=True, pick="highest"),
}
