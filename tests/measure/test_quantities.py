"""Laws of bytes and energy on made-up subnets: a predictor has to find them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from measure.latency_cases import configs, layers_of, measured

from bnas.errors import MeasureError
from bnas.measure.quantities import QuantityModel, fit_quantity, predict_quantity
from bnas.measure.record import Measurement
from bnas.plain import from_plain, to_plain
from bnas.space import SubnetConfig


def bytes_of(config: SubnetConfig) -> int:
    """A byte for each weight, four for each output channel's scale and bias."""
    layers = [layer for layer in layers_of(config) if layer.kind == "conv2d"]
    return sum(layer.weights for layer in layers) + 500 * len(layers)


def energy_of(config: SubnetConfig) -> float:
    return 0.3 + 1e-7 * sum(layer.macs for layer in layers_of(config))


def lines(count: int, held_out: int, *, energy: bool = True) -> list[Measurement]:
    own = []
    for place, config in enumerate(configs(count)):
        line = measured(config, 1.0, role="held_out" if place >= count - held_out else "fit")
        told = energy_of(config) if energy else None
        own.append(replace(line, size_bytes=bytes_of(config), energy_mj=told))
    return own


@pytest.mark.parametrize(("name", "truth"), [("size_bytes", bytes_of), ("energy_mj", energy_of)])
def test_it_is_told_of_subnets_that_were_not_measured(name: str, truth) -> None:
    model = fit_quantity(lines(24, 6), layers_of, name)
    others = configs(60)[24:]
    errors = [predict_quantity(model, layers_of(config)) / truth(config) - 1 for config in others]
    assert np.abs(errors).mean() < 0.05
    assert (model.name, model.samples, model.judged_on, model.figures.count) == (name, 24, "held out", 6)
    assert model.figures.mape_percent < 5


def test_those_left_out_in_turn_judge_where_nothing_was_held_out() -> None:
    model = fit_quantity(lines(12, 0), layers_of, "size_bytes")
    assert (model.judged_on, model.figures.count) == ("left out in turn", 12)


def test_its_error_is_that_of_a_predictor_which_did_not_see_the_held_out() -> None:
    """Held-out subnets of another law are foretold badly, and that is said."""
    own = lines(24, 6)
    wrong = [
        replace(line, size_bytes=10 * line.size_bytes) if line.role == "held_out" else line for line in own
    ]
    assert fit_quantity(wrong, layers_of, "size_bytes").figures.mape_percent > 80


def test_it_predicts_the_same_after_json() -> None:
    model = fit_quantity(lines(16, 4), layers_of, "size_bytes")
    again = from_plain(QuantityModel, to_plain(model))
    layers = layers_of(configs(20)[-1])
    assert predict_quantity(again, layers) == predict_quantity(model, layers)


def test_a_reading_of_nothing_is_no_defect() -> None:
    own = lines(12, 0)
    own[0] = replace(own[0], size_bytes=0)
    assert predict_quantity(fit_quantity(own, layers_of, "size_bytes"), layers_of(own[1].config)) > 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sizes_bytes", r"a campaign does not read 'sizes_bytes'; did you mean 'size_bytes'\?"),
        ("energy_mj", "energy_mj was read of 0 subnets; its predictor needs 4 or more"),
        ("memory_bytes", "memory_bytes was read of 0 subnets"),
    ],
)
def test_what_was_not_read(name: str, text: str) -> None:
    with pytest.raises(MeasureError, match=text):
        fit_quantity(lines(8, 2, energy=False), layers_of, name)
