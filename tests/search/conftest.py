"""Spaces with a known truth: values of every subnet by formula, so that the true front can be listed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import pytest

from bnas.search import OBJECTIVES, Evaluate, Objective, Problem, SearchConfig
from bnas.space import Choice, SearchSpace, SubnetConfig


@pytest.fixture
def goals() -> tuple[Objective, ...]:
    return (OBJECTIVES["top1_percent"], OBJECTIVES["latency_ms"])


@pytest.fixture
def settings() -> Callable[..., SearchConfig]:
    """Options for any algorithm: a point of interest for that which needs one."""

    def make(algorithm: str, **options) -> SearchConfig:
        point = {"top1_percent": 78.0, "latency_ms": 4.0} if algorithm == "rnsga2" else {}
        return SearchConfig(**{"algorithm": algorithm, "preference": point, **options})

    return make


@pytest.fixture
def make_space() -> Callable[..., SearchSpace]:
    def make(*counts: int) -> SearchSpace:
        return SearchSpace(
            choices=tuple(
                Choice(name=f"layer{i}.width", dim="width", values=tuple(8 * (k + 1) for k in range(count)))
                for i, count in enumerate(counts)
            )
        )

    return make


@pytest.fixture
def make_problem(make_space, goals) -> Callable[..., Problem]:
    def make(*counts: int, **options) -> Problem:
        space = make_space(*counts)
        options = {"start": (space.largest, space.smallest), **options}
        return Problem(space=space, objectives=goals, **options)

    return make


@pytest.fixture
def make_truth() -> Callable[[SearchSpace, int], Evaluate]:
    """Accuracy with diminishing returns and interactions, latency with interactions of neighbours."""

    def make(space: SearchSpace, seed: int) -> Evaluate:
        rng = np.random.default_rng(seed)
        count = len(space.bounds)
        gain, time = rng.uniform(0.2, 1.5, count), rng.uniform(0.05, 1, count)
        pairs = rng.uniform(-0.3, 0.6, (count, count))

        def truth(config: SubnetConfig) -> dict[str, float]:
            x = np.array([config[choice.name] / choice.values[-1] for choice in space.choices])
            top1 = 70 + 2 * gain @ np.sqrt(x) + x @ pairs @ x / count
            latency = 0.3 + time @ x + 0.3 * (time * x) @ np.roll(x, 1)
            return {"top1_percent": float(top1), "latency_ms": float(latency)}

        return truth

    return make


@pytest.fixture
def every_subnet() -> Callable[[SearchSpace], Iterator[SubnetConfig]]:
    def every(space: SearchSpace) -> Iterator[SubnetConfig]:
        names = [choice.name for choice in space.choices]
        for values in product(*(choice.values for choice in space.choices)):
            yield SubnetConfig(dict(zip(names, values, strict=True)))

    return every


class Counted:
    """An evaluation that remembers what it was asked, and can be killed at the k-th call."""

    def __init__(self, truth: Evaluate, kill_at: int | None = None) -> None:
        self.truth, self.kill_at = truth, kill_at
        self.asked: list[SubnetConfig] = []

    def __call__(self, config: SubnetConfig) -> dict[str, float]:
        if self.kill_at is not None and len(self.asked) == self.kill_at:
            raise KeyboardInterrupt
        self.asked.append(config)
        return dict(self.truth(config))


@pytest.fixture
def counted() -> type[Counted]:
    return Counted
