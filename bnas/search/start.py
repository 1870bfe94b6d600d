"""Where a search starts: subnets by name, or from JSON files that hold some."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnas.errors import ConfigError, SpaceError, did_you_mean
from bnas.plain import from_plain
from bnas.search.problem import Problem
from bnas.space import SubnetConfig

STEPS = 24  # halvings of the way between the smallest and the largest subnet
SIZE = "macs"  # the cheap value that `spread` covers, where it is told

Drawn = Callable[[Problem, int, np.random.Generator], "tuple[SubnetConfig, ...]"]


def starts(
    names: Sequence[str], problem: Problem, population: int, rng: np.random.Generator
) -> tuple[SubnetConfig, ...]:
    """The configs that `config.start` names, `population` different ones at most.

    A name is one of `STARTS`, or the path of a JSON file: a config, a list of configs, a `ParetoFront`, or a file with
    a `front`, the members of which are taken. Where files hold more than there is room for, they are thinned out at
    equal steps, so that both ends of a front are kept.

    Raises:
        ConfigError: no such name or file; a file without configs; a config that does not belong to the space.
    """
    ends: dict[SubnetConfig, None] = {}
    others: dict[SubnetConfig, None] = {}
    for place, name in enumerate(names):
        where = f"search.start[{place}]"
        if name in STARTS:
            own = STARTS[name](problem, population, rng)
            (ends if name in ("largest", "smallest") else others).update(dict.fromkeys(own))
        elif Path(name).suffix == ".json" or Path(name).exists():
            others |= dict.fromkeys(map(problem.canonical, configs_in(Path(name), problem, where)))
        else:
            raise ConfigError(
                f"{where}: expected the path of a JSON file, or a name{did_you_mean(name, STARTS)}; got '{name}'"
            )
    rest = [config for config in others if config not in ends]
    return (*ends, *evenly(rest, population - len(ends)))


def evenly(configs: Sequence[SubnetConfig], count: int) -> tuple[SubnetConfig, ...]:
    """`count` of them at equal steps, the first and the last among them; all where there are no more."""
    if len(configs) <= count:
        return tuple(configs)
    places = np.linspace(0, len(configs) - 1, max(count, 0)).round().astype(int)
    return tuple(configs[place] for place in places)


def configs_in(path: Path, problem: Problem, where: str) -> tuple[SubnetConfig, ...]:
    """The configs that a JSON file holds.

    Raises:
        ConfigError: it cannot be read, holds none, or one that does not belong to the space.
    """
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{where}: cannot read {path}: {reason}") from error
    found = []
    for part, plain in _plain_configs(data):
        try:
            config = from_plain(SubnetConfig, plain)
            problem.space.validate(config)
        except (ConfigError, SpaceError) as error:
            raise ConfigError(f"{where}: {path}{part} does not belong to this space: {error}") from error
        found.append(config)
    if not found:
        raise ConfigError(
            f"{where}: {path} holds no subnets; expected a config, a list of them, or a front.json"
        )
    return tuple(found)


def _plain_configs(data: Any, part: str = "") -> list[tuple[str, Any]]:
    """What should be a config in JSON data, each with its place there."""
    if isinstance(data, list):
        return [own for i, item in enumerate(data) for own in _plain_configs(item, f"{part}[{i}]")]
    if isinstance(data, Mapping):
        for key in ("front", "members", "config"):
            if key in data:
                return _plain_configs(data[key], f"{part}.{key}")
    return [(f": {part.lstrip('.')}" if part else "", data)]


def spread(problem: Problem, population: int, rng: np.random.Generator) -> tuple[SubnetConfig, ...]:
    """Half a population at equal steps of MACs, where `problem.cheap` tells them as `macs`, else of the sum of indices.

    Each is drawn at random, then all its choices are moved up or down together until its size is right. Both ends are
    as large and as small as the constraints allow.
    """
    count = max(2, population // 2)
    top = np.array(problem.space.bounds) - 1
    low, high = (
        _size(problem, problem.led(problem.canonical(end), rng))
        for end in (problem.space.smallest, problem.space.largest)
    )
    found: dict[SubnetConfig, None] = {}
    for wanted in np.linspace(low, high, count):
        config = _of_size(problem, float(wanted), rng.random(len(top)), top)
        found[config if problem.allowed(config) else problem.led(config, rng)] = None
    return tuple(found)


def _of_size(problem: Problem, wanted: float, at: np.ndarray, top: np.ndarray) -> SubnetConfig:
    """A subnet of about that size. `at` [choices]: where each choice is between its least (0) and most (1)."""
    low, high = -1.0, 1.0  # by how much all choices are moved; sizes grow with it
    best = problem.decode(np.rint(np.clip(at, 0, 1) * top).astype(int).tolist())
    for _ in range(STEPS):
        middle = (low + high) / 2
        config = problem.decode(np.rint(np.clip(at + middle, 0, 1) * top).astype(int).tolist())
        if abs(_size(problem, config) - wanted) < abs(_size(problem, best) - wanted):
            best = config
        if _size(problem, config) < wanted:
            low = middle
        else:
            high = middle
    return best


def _size(problem: Problem, config: SubnetConfig) -> float:
    told = problem.cheaply(config)
    return told[SIZE] if SIZE in told else float(sum(problem.space.encode(config)))


def _largest(problem: Problem, population: int, rng: np.random.Generator) -> tuple[SubnetConfig, ...]:
    return (problem.canonical(problem.space.largest),)


def _smallest(problem: Problem, population: int, rng: np.random.Generator) -> tuple[SubnetConfig, ...]:
    return (problem.canonical(problem.space.smallest),)


STARTS: dict[str, Drawn] = {"largest": _largest, "smallest": _smallest, "spread": spread}
