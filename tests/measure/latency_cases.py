"""Subnets of a made-up space, and laws of their latency, for the tests of the predictor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from bnas.measure.hardware import HwConfig, detect
from bnas.measure.record import Measurement
from bnas.space import LayerCost, SubnetConfig

HARDWARE = detect(HwConfig())


def conv(
    inputs: int, outputs: int, positions: int = 64, kernel: int = 9, groups: int = 1, name: str = "conv"
) -> LayerCost:
    weights = outputs * inputs // groups * kernel
    return LayerCost(
        name=name, kind="conv2d", macs=weights * positions, parameters=weights, weights=weights, inputs=inputs,
        outputs=outputs, positions=positions, kernel=kernel, groups=groups,
    )  # fmt: skip


def norm(width: int) -> LayerCost:
    return LayerCost(
        name="norm", kind="batch_norm", macs=0, parameters=2 * width, weights=2 * width, inputs=width, outputs=width,
        positions=64, kernel=1, groups=1,
    )  # fmt: skip


def layers_of(config: SubnetConfig) -> tuple[LayerCost, ...]:
    width = config["width"]
    deep = (conv(width, width, name=f"block{index}") for index in range(config["depth"]))
    light = conv(width, width, positions=400, groups=width, name="light")
    return (conv(3, width, name="stem"), norm(width), light, *deep)


def configs(count: int, seed: int = 0) -> list[SubnetConfig]:
    rng = np.random.default_rng(seed)
    pairs = {(int(rng.integers(2, 25)) * 8, int(rng.integers(1, 9))) for _ in range(20 * count)}
    order = rng.permutation(len(pairs))
    drawn = [sorted(pairs)[place] for place in order]
    return [SubnetConfig({"width": width, "depth": depth}) for width, depth in drawn][:count]


def law(config: SubnetConfig) -> float:
    """Milliseconds: a start-up, a price per layer, one per multiply-accumulate and one per number moved."""
    layers = [layer for layer in layers_of(config) if layer.kind == "conv2d"]
    moved = sum(layer.weights + (layer.inputs + layer.outputs) * layer.positions for layer in layers)
    return 0.05 + 0.02 * len(layers) + 2e-8 * sum(layer.macs for layer in layers) + 1e-6 * moved


def measured(
    config: SubnetConfig,
    ratio: float,
    reference_ms: float = 10.0,
    role: Literal["fit", "held_out"] = "fit",
    error_percent: float = 0.0,
) -> Measurement:
    return Measurement(
        config=config, space="s", role=role, time_ms=ratio * reference_ms, p10_ms=0, p90_ms=0, p99_ms=0, ratio=ratio,
        ratio_p10=ratio, ratio_p90=ratio, ratio_error_percent=error_percent, converged=True,
        reference_ms=reference_ms, rounds=1, calls=1, disturbed=0, batch=1, threads=1, streams=0, precision="int8",
        scenario="latency", artefact="", size_bytes=0, seconds={}, memory_bytes=None, energy_mj=None, began=0.0,
        hardware=HARDWARE,
    )  # fmt: skip


def campaign(
    count: int,
    held_out: int = 0,
    truth: Callable[[SubnetConfig], float] = law,
    noise: float = 0.0,
    seed: int = 0,
) -> list[Measurement]:
    """`count` measurements, the last `held_out` of that role, with relative noise."""
    rng = np.random.default_rng(seed + 100)
    return [
        measured(
            config,
            truth(config) / 10 * float(np.exp(noise * rng.standard_normal())),
            role="held_out" if index >= count - held_out else "fit",
            error_percent=196 * noise,
        )
        for index, config in enumerate(configs(count, seed))
    ]
