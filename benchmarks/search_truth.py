"""A ResNet-50 space in which every subnet's accuracy and latency are known by formula, and with them the true front.

The space is of the kind of BootstrapNAS's INT8 ResNet-50 space (arXiv 2205.10358): each stage keeps the blocks that
OFA's ResNet-50 always has (2, 2, 4, 2) or all (3, 4, 6, 3); its width is .65, .8 or 1 of the original one; the inner
width of each block is .2 or .25 of its stage's. These are 8.5e7 configs and 1.9e7 different networks, as the
inner width of a block that is left out does not matter.

What is published of that supernet decides the scale of the truth and nothing else about it; what is not published is
an assumption, and called one. Losses are in points of top-1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bnas.search.front import Points
from bnas.space import Choice, SearchSpace, SubnetConfig

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """`width` channels between blocks, maps of `side`², `depths` blocks; `points` weigh its part of the loss."""

    width: int
    side: int
    depths: tuple[int, ...]
    points: float


# The points' sum makes the loss grow with the work that is saved as published for three subnets of BootstrapNAS's
# supernet: 76.17, 75.75 and 74.89 % with 2.4, 1.85 and 1.3 of 4.1 G multiply-accumulates (4.4 · (ratio^.35 − 1) is
# off by .1 points at most). How they are shared out is an assumption: late stages matter more than they cost.
RESNET50 = (
    Stage(width=256, side=56, depths=(2, 3), points=0.7),
    Stage(width=512, side=28, depths=(2, 4), points=1.0),
    Stage(width=1024, side=14, depths=(4, 6), points=1.5),
    Stage(width=2048, side=7, depths=(2, 3), points=1.2),
)
SHARES = (0.65, 0.8, 1.0)  # widths of a stage
EXPANDS = (20, 25)  # inner widths of a block, in percent of its stage's width
IMAGE, STEM, CLASSES = 224, 64, 1000  # side of the images, width of the stem, outputs: always the same

BEST_PERCENT = 77.1  # the top of the published front
# What an evaluation adds to the truth, a fixed number for each network. Two networks that are as good as each other
# disagree about a tenth of the images (assumed): on 50 000 they differ by .14 points, each by .1 from the truth.
NOISE = 0.1

# Latency of one image in INT8 on a socket of the Xeon Platinum 8380, where ResNet-50 is published to take 1.08 ms.
PEAK = 11.8e12  # multiply-accumulates a second: half of what is published for two sockets
EFFICIENCY = 0.395  # what layers of a good shape make of that: with it the original network takes 1.08 ms
BANDWIDTH = 300e9  # bytes a second, an assumption: between its memory's and its last-level cache's
START = 2.5e-6  # seconds for which any layer takes, an assumption
CORES = 40
LANES, QUAD = 16, 4  # output and input channels that its INT8 instructions take at once


@dataclass(frozen=True, kw_only=True)
class Law:
    """How accuracy is lost, in points of top-1: assumptions all, but for the sum of the stages' points.

    A stage loses its points · (capacity^-power − 1): diminishing returns. `width_power`: capacity by width; with depth
    and inner widths it falls as the work to the .7. `blocks`: what the first, second … block adds to the capacity. Of a
    residual network those that change the resolution matter most and any other little (Veit et al., 2016).

    Interactions are about half a point together, an eighth of the range. `thin_pair`: two neighbouring blocks are both
    thin; `thin_entry`: a thin first block, behind a stage of the least width; `widening` · (share of the width − that
    of the stage before)², where it is wider: channels without input; `narrowest` · (1 − least share)²: nothing makes up
    for a bottleneck.
    """

    power: float = 0.5
    width_power: float = 1.5
    blocks: tuple[float, ...] = (1.0, 0.5, 0.4, 0.35, 0.3, 0.3)
    thin_pair: float = 0.02
    thin_entry: float = 0.04
    widening: float = 1.0
    narrowest: float = 1.0


def redrawn(number: int, stages: Sequence[Stage]) -> tuple[tuple[Stage, ...], Law]:
    """Assumptions other than those written here, by a number: each is multiplied by e^(.5 · a normal number).

    The sum of the stages' points stays, as published accuracies decide it.
    """
    rng = np.random.default_rng(number)

    def other(value: float) -> float:
        return value * float(np.exp(0.5 * rng.standard_normal()))

    points = [other(stage.points) for stage in stages]
    scale = sum(stage.points for stage in stages) / sum(points)
    law = Law()
    blocks = (law.blocks[0], *(other(own) for own in law.blocks[1:]))
    rest = {field.name: other(getattr(law, field.name)) for field in fields(Law) if field.name != "blocks"}
    changed = tuple(replace(stage, points=scale * own) for stage, own in zip(stages, points, strict=True))
    return changed, Law(blocks=blocks, **rest)


@dataclass(frozen=True)
class _Settings:
    """All n settings of a stage: widths [n], shares [n], expands [n, blocks] in percent, 0 for a block left out."""

    widths: Array
    shares: Array
    expands: Array
    index: dict[tuple[int, ...], int]  # of (depth, width, expands of the blocks that are kept)


class Truth:
    """The space, and the true accuracy and latency of all its subnets. It draws nothing: two of them are equal."""

    def __init__(
        self,
        stages: Sequence[Stage] = RESNET50,
        shares: Sequence[float] = SHARES,
        noise: float = NOISE,
        law: Law | None = None,
    ) -> None:
        self._noise = noise
        self._law = law or Law()
        self._names = [f"layer{place + 1}" for place in range(len(stages))]
        self._blocks = [
            [f"{name}.{block}.expand" for block in range(stage.depths[-1])]
            for name, stage in zip(self._names, stages, strict=True)
        ]
        widths = [tuple(divisible(stage.width * np.array(shares)).astype(int).tolist()) for stage in stages]
        self._all = [_settings(stage, own) for stage, own in zip(stages, widths, strict=True)]
        self._losses = [_loss(stage, own, self._law) for stage, own in zip(stages, self._all, strict=True)]
        self._links = [_link(*pair, self._law) for pair in zip(self._all, self._all[1:], strict=False)]
        # By stage: the index of the width before it, by setting of that stage; and what it costs [widths before, n].
        self._width_index = [
            np.searchsorted(own, all_.widths) for own, all_ in zip(widths, self._all, strict=True)
        ]
        before = [np.array([STEM]), *map(np.array, widths[:-1])]
        self._costs = [_costs(*own) for own in zip(stages, self._all, before, strict=True)]
        choices: list[Choice] = []
        for name, stage, own, blocks in zip(self._names, stages, widths, self._blocks, strict=True):
            choices.append(Choice(name=f"{name}.depth", dim="depth", values=stage.depths))
            choices.append(Choice(name=f"{name}.width", dim="width", values=own))
            choices += [Choice(name=block, dim="width", values=EXPANDS) for block in blocks]
        self.space = SearchSpace(choices=tuple(choices))

    @property
    def counts(self) -> tuple[int, ...]:
        """How many settings each stage has; their product is the number of different networks."""
        return tuple(len(own.widths) for own in self._all)

    def canonical(self, config: SubnetConfig) -> SubnetConfig:
        """`config` with the inner widths of blocks that are left out at their largest."""
        idle = [
            block
            for name, blocks in zip(self._names, self._blocks, strict=True)
            for block in blocks[config[f"{name}.depth"] :]
        ]
        if all(config[block] == EXPANDS[-1] for block in idle):
            return config
        return SubnetConfig({**config.values, **dict.fromkeys(idle, EXPANDS[-1])})

    def settings(self, config: SubnetConfig) -> tuple[int, ...]:
        """The index of each stage's setting: the same for configs that are one network."""
        found = []
        for name, blocks, own in zip(self._names, self._blocks, self._all, strict=True):
            depth = config[f"{name}.depth"]
            inner = (config[block] for block in blocks[:depth])
            found.append(own.index[(depth, config[f"{name}.width"], *inner)])
        return tuple(found)

    def evaluated_percent(self, config: SubnetConfig) -> float:
        """The accuracy that an evaluation finds."""
        return float(self.top1_percent(self.settings(config), evaluated=True)[0])

    def top1_percent(self, settings: Sequence[int | NDArray[np.int64]], *, evaluated: bool = False) -> Array:
        """The accuracy of networks [n] by the indices of their stages' settings, each [n] or one for all.

        The true one, by which a search is judged, or that which an evaluation finds.
        """
        places = np.broadcast_arrays(*map(np.atleast_1d, settings))
        loss = sum(own[place] for own, place in zip(self._losses, places, strict=True))
        for link, first, second in zip(self._links, places, places[1:], strict=False):
            loss = loss + link[first, second]
        shares = [own.shares[place] for own, place in zip(self._all, places, strict=True)]
        loss = loss + self._law.narrowest * (1 - np.minimum.reduce(shares)) ** 2
        error = 100 - BEST_PERCENT
        found: Array = 100 - error * np.exp(loss / error)  # what is lost multiplies the errors
        if evaluated:
            found = found + self._noise * normal(np.ravel_multi_index(tuple(places), self.counts))
        return found

    def latency_ms(self, settings: Sequence[int | NDArray[np.int64]]) -> Array:
        """The latency of networks [n], see `top1_percent`."""
        return 1e3 * self._cost(settings, 1)

    def macs(self, settings: Sequence[int | NDArray[np.int64]]) -> Array:
        """The multiply-accumulates of networks [n], see `top1_percent`."""
        return self._cost(settings, 0)

    def _cost(self, settings: Sequence[int | NDArray[np.int64]], kind: int) -> Array:
        places = np.broadcast_arrays(*map(np.atleast_1d, settings))
        last = self._all[-1].widths[places[-1]]
        total = _conv(3.0, STEM, 7, IMAGE // 2, 2)[kind] + _conv(last, CLASSES, 1, 1)[kind]
        before = np.zeros_like(places[0])
        for costs, place, index in zip(self._costs, places, self._width_index, strict=True):
            total = total + costs[kind][before, place]
            before = index[place]
        return total

    def points(self, configs: Sequence[SubnetConfig], *, evaluated: bool = False) -> Points:
        """The costs [configs, (accuracy turned, ms)] by which a search that evaluated them is judged: the true ones."""
        settings = np.array([self.settings(config) for config in configs]).T
        return self._points(tuple(settings), evaluated=evaluated)

    def front(self, *, evaluated: bool = False) -> Points:
        """The true front [n, (accuracy turned, ms)], the most accurate first: every network is looked at.

        With `evaluated` that of the accuracies that evaluations find: the luckiest of many that are as good.
        """
        *rest, third, fourth = self.counts
        late = np.indices((third, fourth)).reshape(2, -1)  # at once, for every setting of the stages before
        found = [
            front_of(self._points((*early, *late), evaluated=evaluated))
            for early in product(*map(range, rest))
        ]
        return front_of(np.concatenate(found))

    def _points(self, settings: Sequence[int | NDArray[np.int64]], *, evaluated: bool) -> Points:
        top1 = self.top1_percent(settings, evaluated=evaluated)
        return np.stack([-top1, self.latency_ms(settings)], axis=1)


def front_of(costs: Points) -> Points:
    """The rows of costs [n, 2] that no other dominates, in ascending order of the first; of equal ones one."""
    ordered = costs[np.lexsort((costs[:, 1], costs[:, 0]))]
    best = np.minimum.accumulate(ordered[:, 1])
    kept: Points = ordered[np.concatenate([[True], ordered[1:, 1] < best[:-1]])]
    return kept


def divisible(widths: Array) -> Array:
    """The nearest multiples of 8, at least .9 of `widths`: as OFA rounds channels."""
    rounded = np.maximum(8, np.floor((widths + 4) / 8) * 8)
    filled: Array = np.where(rounded < 0.9 * widths, rounded + 8, rounded)
    return filled


def normal(numbers: NDArray[np.int64]) -> Array:
    """A standard normal number for each, always the same: SplitMix64 (Steele et al., 2014), then Box and Muller."""
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    high, low = ((half + 0.5) / 2**32 for half in (mixed >> np.uint64(32), mixed & np.uint64(0xFFFFFFFF)))
    drawn: Array = np.sqrt(-2 * np.log(high)) * np.cos(2 * np.pi * low)
    return drawn


def _settings(stage: Stage, widths: tuple[int, ...]) -> _Settings:
    most = stage.depths[-1]
    keys = [
        (depth, width, *inner)
        for depth in stage.depths
        for width in widths
        for inner in product(EXPANDS, repeat=depth)
    ]
    return _Settings(
        widths=np.array([key[1] for key in keys], dtype=float),
        shares=np.array([key[1] / stage.width for key in keys]),
        expands=np.array([[*key[2:], *[0] * (most - key[0])] for key in keys], dtype=float),
        index={key: place for place, key in enumerate(keys)},
    )


def _loss(stage: Stage, own: _Settings, law: Law) -> Array:
    """What a stage loses by itself [n]."""
    weights = np.array(law.blocks[: own.expands.shape[1]])
    capacity = own.shares**law.width_power * (own.expands / EXPANDS[-1] @ weights) / weights.sum()
    thin = own.expands == EXPANDS[0]
    pairs = (thin[:, 1:] & thin[:, :-1]).sum(axis=1)
    lost: Array = stage.points * (capacity**-law.power - 1) + law.thin_pair * pairs
    return lost


def _link(before: _Settings, own: _Settings, law: Law) -> Array:
    """What two stages lose by each other [settings of the first, settings of the second]."""
    lack = (1 - before.shares[:, None]) / (1 - SHARES[0])
    wider = np.maximum(0, own.shares - before.shares[:, None])
    lost: Array = law.thin_entry * lack * (own.expands[:, 0] == EXPANDS[0]) + law.widening * wider**2
    return lost


def _costs(stage: Stage, own: _Settings, before: NDArray[np.int64]) -> tuple[Array, Array]:
    """Multiply-accumulates and seconds of a stage [widths before it, n]."""
    layers = list(_layers(stage, own, before[:, None].astype(float)))
    macs = sum((kept * costs[0] for kept, costs in layers), np.zeros((1, 1)))
    return macs, sum((kept * costs[1] for kept, costs in layers), np.zeros((1, 1)))


def _layers(stage: Stage, own: _Settings, before: Array) -> Iterator[tuple[Array, tuple[Array, Array]]]:
    """Of each convolution: in which settings it is there [n], and what it costs [widths before, n] or [n]."""
    stride = 1 if before[0, 0] == STEM else 2
    for block, percent in enumerate(own.expands.T):
        kept = (percent > 0).astype(float)
        inner = divisible(own.widths * np.where(percent > 0, percent, EXPANDS[0]) / 100)
        first, side = block == 0, stage.side
        step = stride if first else 1
        inputs = before if first else own.widths
        yield kept, _conv(inputs, inner, 1, side * step)
        yield kept, _conv(inner, inner, 3, side, step)
        yield kept, _conv(inner, own.widths, 1, side)
        if first:
            yield kept, _conv(before, own.widths, 1, side, step)


def _conv(
    inputs: Array | float, outputs: Array | float, kernel: int, side: int, stride: int = 1
) -> tuple[Array, Array]:
    """Multiply-accumulates and seconds of a convolution that writes maps of `side`².

    Either the work or the bytes decide. Channels are filled up to whole instructions, and rows of groups of output
    channels shared out among the cores, of which some wait in the last round.
    """
    inputs, outputs, area = np.asarray(inputs), np.asarray(outputs), kernel**2 * side**2
    blocks = np.ceil(outputs / LANES)
    filled = blocks * LANES * np.ceil(inputs / QUAD) * QUAD * area
    busy = blocks * side / (np.ceil(blocks * side / CORES) * CORES)
    moved = inputs * (side * stride) ** 2 + outputs * side**2 + inputs * outputs * kernel**2
    seconds = START + np.maximum(filled / (PEAK * EFFICIENCY * busy), moved / BANDWIDTH)
    return inputs * outputs * float(area), seconds
