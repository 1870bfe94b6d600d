"""Which subnets a step trains, and every other random choice of the training, from (seed, stage, step) alone.

Nothing here, and nothing in the loop, draws from a generator that has a past; a training that is resumed at
step n therefore draws exactly what the undisturbed one does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from bnas.space import RESOLUTION, SearchSpace, SubnetConfig, resolution_of

if TYPE_CHECKING:
    from bnas.train.stages import Stage


class Place(IntEnum):
    """What a random number is for; different places never share their numbers."""

    ORDER = 1
    AUGMENT = 2
    SUBNET = 3
    DROPOUT = 4
    RECALIBRATE = 5


def step_entropy(seed: int, stage: Stage | None, place: Place, step: int = 0) -> list[int]:
    """Seed sequence of one place in one step; the stage counts by its name, not by its position."""
    return [seed, int(place), crc32(stage.name.encode()) if stage else 0, step]


def step_seed(seed: int, stage: Stage | None, place: Place, step: int = 0) -> int:
    """`step_entropy` as one 32-bit number, for generators that take no more."""
    return int(np.random.SeedSequence(step_entropy(seed, stage, place, step)).generate_state(1)[0])


def sample_stage(space: SearchSpace, stage: Stage, seed: int, step: int) -> tuple[SubnetConfig, ...]:
    """The subnets that step `step` of a stage trains, in order; the same ones whenever it is asked.

    All subnets of a step have one resolution, drawn from the open ones, the fixed ones of the sampling too.
    """
    rng = np.random.default_rng(step_entropy(seed, stage, Place.SUBNET, step))
    fixed = SAMPLINGS[stage.sampling].fixed(space, stage.dims)
    drawn = (space.sample(rng, open=stage.dims) for _ in range(stage.subnets_per_step - len(fixed)))
    subnets = (*fixed, *drawn)
    size = resolution_of(space.sample(rng, open=stage.dims))
    if size is None:
        return subnets
    return tuple(SubnetConfig({**subnet.values, RESOLUTION: size}) for subnet in subnets)


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

    `fewest` is the least `Stage.subnets_per_step` with which the sampling means something.
    """

    fixed: Callable[[SearchSpace, Mapping[str, int]], tuple[SubnetConfig, ...]]
    fewest: int


SAMPLINGS: dict[str, Sampling] = {
    # Independent uniform draws; alone they suffice (Shipard et al. 2022, random subnet sampling).
    "random": Sampling(fixed=lambda space, dims: (), fewest=1),
    # The largest subnet as well, so that it is not forgotten.
    "largest": Sampling(fixed=lambda space, dims: (space.largest,), fewest=2),
    # Yu & Huang 2019, "Universally slimmable networks and improved training techniques", section 3.1.
    "sandwich": Sampling(fixed=lambda space, dims: (space.largest, smallest_open(space, dims)), fewest=2),
}
