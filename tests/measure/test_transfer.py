from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np
import pytest

from bnas.errors import MeasureError
from bnas.measure.hardware import HwConfig, detect
from bnas.measure.latency import LatencyModel, fit_latency, predict, predict_ms
from bnas.measure.record import Measurement
from bnas.measure.transfer import transfer
from bnas.plain import from_plain, to_plain
from bnas.space import LayerCost, SubnetConfig

STAGES = (64, 16, 4)  # positions, each with a width and a depth


def conv(name: str, inputs: int, outputs: int, positions: int, kernel: int = 9) -> LayerCost:
    weights = outputs * inputs * kernel
    return LayerCost(
        name=name, kind="conv2d", macs=weights * positions, parameters=weights, weights=weights, inputs=inputs,
        outputs=outputs, positions=positions, kernel=kernel, groups=1,
    )  # fmt: skip


def layers_of(config: SubnetConfig) -> tuple[LayerCost, ...]:
    layers, before = [], 3
    for stage, positions in enumerate(STAGES):
        width = config[f"width{stage}"]
        for index in range(config[f"depth{stage}"]):
            layers.append(conv(f"layer{stage}.{index}", before, width, positions))
            before = width
    return tuple(layers)


def configs(count: int, seed: int) -> list[SubnetConfig]:
    rng = np.random.default_rng(seed)
    return [
        SubnetConfig(
            {f"width{stage}": int(rng.integers(2, 16)) * 16 for stage in range(3)}
            | {f"depth{stage}": int(rng.integers(1, 6)) for stage in range(3)}
        )
        for _ in range(count)
    ]


def law(
    config: SubnetConfig, start: float = 0.05, layer: float = 0.02, mac: float = 1e-8, moved: float = 2e-7
) -> float:
    """Milliseconds: a start-up, a price per layer, per multiply-accumulate and per number moved.

    Some widths suit the kernels, others do not, on either machine: no predictor is told of it.
    """
    return start + sum(
        layer
        + mac * own.macs * (1 + 0.3 * np.sin(own.outputs / 7))
        + moved * (own.weights + (own.inputs + own.outputs) * own.positions)
        for own in layers_of(config)
    )


def other(config: SubnetConfig) -> float:
    """A machine with faster arithmetic, slower memory and a longer start."""
    return law(config, start=0.2, layer=0.03, mac=0.7e-8, moved=3e-7)


def measured(
    truth: Callable[[SubnetConfig], float],
    subnets: list[SubnetConfig],
    role: Literal["fit", "held_out"] = "fit",
    noise: float = 0.005,
    reference_ms: float = 10.0,
) -> list[Measurement]:
    rng = np.random.default_rng(len(subnets))
    return [
        Measurement(
            config=own, space="s", role=role, time_ms=1.0, p10_ms=1.0, p90_ms=1.0, p99_ms=1.0,
            ratio=truth(own) * float(np.exp(noise * rng.standard_normal())) / 10, ratio_p10=1.0, ratio_p90=1.0,
            ratio_error_percent=100 * 1.96 * noise, converged=True, reference_ms=reference_ms, rounds=10, calls=10,
            disturbed=0, batch=8, threads=2, streams=1, precision="f32", scenario="latency", artefact="a",
            size_bytes=1, seconds={}, memory_bytes=None, energy_mj=None, began=0.0, hardware=detect(HwConfig()),
        )
        for own in subnets
    ]  # fmt: skip


@cache
def source() -> LatencyModel:
    return fit_latency(measured(law, configs(120, 0)), layers_of, kinds=["gaussian_process"])


@cache
def carried_over() -> LatencyModel:
    return transfer(
        source(), [*measured(other, configs(12, 1)), *measured(other, configs(40, 2), "held_out")], layers_of
    )


def errors(model: LatencyModel, truth: Callable[[SubnetConfig], float]) -> np.ndarray:
    return np.array([abs(predict_ms(model, layers_of(own)) / truth(own) - 1) for own in configs(60, 3)])


def test_a_machine_that_is_slower_by_one_factor() -> None:
    model = transfer(source(), measured(lambda own: 3 * law(own), configs(12, 1)), layers_of)
    assert model.kind in ("scale", "power")
    assert model.base == source()
    assert errors(model, lambda own: 3 * law(own)).mean() < errors(source(), law).mean() + 0.01


def test_another_balance_is_carried_over_and_better_than_afresh() -> None:
    model = carried_over()
    assert model.base == source()
    assert errors(model, other).mean() < 0.04
    figures = model.held_out
    assert figures[model.kind].count == 40
    assert figures[model.kind].samples == 12
    assert figures[model.kind].mape_percent < figures["scale"].mape_percent
    assert figures[model.kind].mape_percent < figures["afresh"].mape_percent
    assert figures[model.kind].mape_percent < figures["macs_line"].mape_percent / 2
    assert {"scale", "power", "prices", "afresh", "macs_line", "lookup"} <= set(model.cross_validated)
    assert model.figures == figures[model.kind]


def test_what_was_measured_is_said_of_the_other_hardware() -> None:
    model = carried_over()
    assert (model.samples, model.precision, model.batch, model.threads) == (52, "f32", 8, 2)
    assert model.reference_ms == 10.0


def test_error_bars_hold_most_and_not_everything_is_within_them() -> None:
    bars = [predict(carried_over(), layers_of(own)) for own in configs(60, 3)]
    within = [bar.low_ms <= other(own) <= bar.high_ms for bar, own in zip(bars, configs(60, 3), strict=True)]
    assert np.mean(within) >= 0.85
    assert max(bar.high_ms / bar.low_ms for bar in bars) < 2


def test_a_source_that_says_nothing_does_no_harm() -> None:
    """The other hardware's time falls where the source's rises."""

    def opposite(config: SubnetConfig) -> float:
        layers = layers_of(config)
        return 0.1 + 0.3 * len(layers) + 10 / sum(own.outputs for own in layers)

    nonsense = fit_latency(
        measured(lambda own: 1.0 + int(own.digest[:4], 16) % 7, configs(40, 0)), layers_of, kinds=["ridge"]
    )
    model = transfer(nonsense, measured(opposite, configs(30, 1)), layers_of)
    afresh = fit_latency(measured(opposite, configs(30, 1)), layers_of, kinds=["ridge"])
    assert errors(model, opposite).mean() < 1.5 * errors(afresh, opposite).mean() + 0.01
    assert model.cross_validated["scale"].mape_percent > 3 * model.figures.mape_percent


def test_a_drift_of_the_reference_is_no_factor() -> None:
    """Ratios are what counts; milliseconds are those of the median moment."""
    lines = measured(law, configs(12, 1), reference_ms=30.0)
    model = transfer(source(), lines, layers_of)
    assert errors(model, lambda own: 3 * law(own)).mean() < errors(source(), law).mean() + 0.01


def test_it_is_plain_data() -> None:
    model = carried_over()
    again = from_plain(LatencyModel, to_plain(model))
    assert again == model
    layers = layers_of(configs(1, 5)[0])
    assert predict(again, layers) == predict(model, layers)


def test_it_can_be_carried_on() -> None:
    further = transfer(carried_over(), measured(lambda own: 2 * other(own), configs(12, 6)), layers_of)
    assert further.base == carried_over()
    assert errors(further, lambda own: 2 * other(own)).mean() < 0.05


def test_too_few_measurements() -> None:
    lines = [*measured(other, configs(3, 1)), *measured(other, configs(9, 2), "held_out")]
    with pytest.raises(MeasureError, match=r"^3 subnets are measured; .* takes 4 or more, better 20"):
        transfer(source(), lines, layers_of)
    with pytest.raises(MeasureError, match="0 subnets are measured"):
        transfer(source(), [], layers_of)


def test_four_measurements_are_enough() -> None:
    model = transfer(source(), measured(lambda own: 3 * law(own), configs(4, 1)), layers_of)
    assert errors(model, lambda own: 3 * law(own)).mean() < 0.06
