"""What a search optimises: named quantities with a direction and a unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bnas.errors import ConfigError, MeasureError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A quantity to make small (`min`) or large (`max`); the name carries the unit, as in `latency_ms`."""

    name: str
    direction: Literal["min", "max"]
    unit: str = ""

    def cost(self, value: float) -> float:
        """`value` turned so that smaller is better; applied twice it is `value` again."""
        return value if self.direction == "min" else -value

    def best(self, values: Sequence[float]) -> float:
        return min(values) if self.direction == "min" else max(values)

    def worst(self, values: Sequence[float]) -> float:
        return max(values) if self.direction == "min" else min(values)


OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective(name="top1_percent", direction="max", unit="%"),
        Objective(name="map_percent", direction="max", unit="%"),
        Objective(name="latency_ms", direction="min", unit="ms"),
        Objective(name="throughput_per_s", direction="max", unit="1/s"),
        Objective(name="macs", direction="min", unit="MACs"),
        Objective(name="parameters", direction="min"),
        Objective(name="size_bytes", direction="min", unit="B"),
        Objective(name="memory_bytes", direction="min", unit="B"),
        Objective(name="energy_mj", direction="min", unit="mJ"),
    )
}


def check_objectives(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """The objectives as a tuple.

    Raises:
        ConfigError: fewer than two, or one given twice.
    """
    names = [objective.name for objective in objectives]
    if len(set(names)) < 2:
        raise ConfigError(f"search: expected two or more objectives, got {', '.join(names) or 'none'}")
    if len(set(names)) < len(names):
        raise ConfigError(f"search: an objective is given twice: {', '.join(names)}")
    return tuple(objectives)


def costs(objectives: Sequence[Objective], values: Mapping[str, float]) -> tuple[float, ...]:
    """The point of `values` in objective space [objectives], each axis turned so that smaller is better."""
    return tuple(objective.cost(values[objective.name]) for objective in objectives)


def objective(name: str) -> Objective:
    """The objective of that name; in `latency_ms@cpu_throughput` what follows @ is the hardware that it is on.

    Raises:
        ConfigError: there is no such objective.
    """
    base, _, _ = name.partition("@")
    if base not in OBJECTIVES:
        raise ConfigError(f"objectives: no objective '{base}'{did_you_mean(base, OBJECTIVES)}")
    return replace(OBJECTIVES[base], name=name)


def check_values(wanted: Sequence[str], values: Mapping[str, float], subnet: str) -> dict[str, float]:
    """What an evaluation returned, as plain floats; values beside the `wanted` ones are kept.

    Raises:
        MeasureError: a wanted value is missing.
    """
    missing = [name for name in wanted if name not in values]
    if missing:
        raise MeasureError(
            f"the evaluation of subnet {subnet} gave no {', '.join(missing)}; it gave: "
            f"{', '.join(sorted(values)) or 'nothing'}"
        )
    return {name: float(value) for name, value in values.items()}


def not_finite(values: Mapping[str, float]) -> str:
    """Which of the values are no finite numbers, in words; empty: none."""
    return ", ".join(f"{name} = {value}" for name, value in values.items() if not math.isfinite(value))
