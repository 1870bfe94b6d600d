from __future__ import annotations

import numpy as np
import pytest
from measure.latency_cases import campaign, configs, conv, law, layers_of, measured

from bnas.errors import MeasureError
from bnas.measure import LatencyModel, fit_latency, predict_ms
from bnas.measure.latency import learning_curve, left_out, predict, predict_many
from bnas.measure.predictors import PREDICTORS
from bnas.plain import from_plain, to_plain


def test_a_law_of_sums_is_found() -> None:
    model = fit_latency(campaign(50, 15), layers_of)
    assert model.kind in ("gaussian_process", "ridge")
    figures = model.held_out[model.kind]
    assert figures.mape_percent < 0.2
    assert (figures.within_2_percent, figures.within_5_percent) == (100, 100)
    assert figures.kendall_tau > 0.99
    assert model.macs_line.mape_percent > 3 * figures.mape_percent
    assert (model.samples, figures.count, figures.samples) == (50, 15, 35)
    errors = [predict_ms(model, layers_of(own)) / law(own) - 1 for own in configs(50, seed=9)]
    assert np.abs(errors).mean() < 0.002


def test_every_kind_and_both_baselines_are_compared() -> None:
    model = fit_latency(campaign(24, 6), layers_of)
    assert set(model.cross_validated) == {*PREDICTORS, "macs_line", "lookup"}
    assert set(model.held_out) == {model.kind, "macs_line", "lookup"}
    assert model.cross_validated[model.kind].mape_percent <= 1.1 * min(
        model.cross_validated[kind].mape_percent for kind in PREDICTORS
    )
    assert fit_latency(campaign(24), layers_of, kinds=["mlp"]).kind == "mlp"


def test_the_line_through_macs_is_as_good_where_macs_are_all() -> None:
    measurements = campaign(30, 8, lambda own: 0.1 + 1e-7 * sum(layer.macs for layer in layers_of(own)))
    assert fit_latency(measurements, layers_of, kinds=["ridge"]).macs_line.mape_percent < 1e-6


def test_held_out_measurements_teach_nothing_until_the_last_fit() -> None:
    """They are made wrong by half: a model that had seen them would be nearer to them."""
    lines = campaign(30, 8)
    spoilt = [*lines[:22], *(measured(own.config, 2 * own.ratio, role="held_out") for own in lines[22:])]
    model = fit_latency(spoilt, layers_of, kinds=["gaussian_process"])
    assert model.figures.mape_percent == pytest.approx(50, abs=1)
    assert (model.figures.within_5_percent, model.figures.covered_percent) == (0, 0)
    own = lines[25].config
    assert predict_ms(model, layers_of(own)) > 1.05 * law(own)


def test_without_held_out_ones_the_figures_are_cross_validated() -> None:
    model = fit_latency(campaign(20), layers_of, kinds=["ridge"])
    assert model.held_out == {}
    assert model.figures == model.cross_validated["ridge"]


def test_drift_of_the_machine_is_taken_out() -> None:
    """Half of the campaign ran while the machine was three times slower; ratios do not know."""
    lines = [
        measured(config, law(config) / 10, reference_ms=10.0 if index % 2 else 30.0)
        for index, config in enumerate(configs(31))
    ]
    model = fit_latency(lines, layers_of, kinds=["gaussian_process"])
    assert model.reference_ms == 30.0
    own = configs(1, seed=5)[0]
    assert predict_ms(model, layers_of(own)) == pytest.approx(3 * law(own), rel=5e-3)


def test_error_bars_hold_what_they_promise_and_widen_away_from_the_data() -> None:
    model = fit_latency(campaign(180, 80, noise=0.01), layers_of, kinds=["gaussian_process"])
    covered = model.figures.covered_percent
    assert covered is not None
    assert 87 <= covered <= 100
    near = predict(model, layers_of(configs(1)[0]))
    far = predict(model, (conv(900, 900, name="block0"), conv(900, 900, positions=4000, name="block1")))
    width = [(own.high_ms - own.low_ms) / own.ms for own in (near, far)]
    assert 0.01 < width[0] < 0.12
    assert width[1] > 2 * width[0]


def test_predictions_of_many_are_those_of_each() -> None:
    model = fit_latency(campaign(20), layers_of, kinds=["gaussian_process"])
    subnets = [layers_of(own) for own in configs(30, seed=3)]
    assert predict_many(model, subnets) == tuple(predict(model, own) for own in subnets)
    assert predict_many(model, []) == ()


@pytest.mark.parametrize("kind", PREDICTORS)
def test_a_model_is_plain_data(kind: str) -> None:
    model = fit_latency(campaign(20, 5), layers_of, kinds=[kind])
    read = from_plain(LatencyModel, to_plain(model))
    assert read == model
    own = layers_of(configs(1, seed=2)[0])
    assert predict(read, own) == predict(model, own)


def test_a_model_of_other_hardware_may_be_the_base() -> None:
    """The factor is a line that says 2 whatever the MACs: the prediction is twice the base's."""
    base = fit_latency(campaign(20), layers_of, kinds=["ridge"])
    twice = fit_latency(campaign(20, truth=lambda own: 2.0), layers_of, kinds=["macs_line"])
    model = from_plain(LatencyModel, {**to_plain(twice), "base": to_plain(base)})
    own = layers_of(configs(1, seed=2)[0])
    assert predict_ms(model, own) == pytest.approx(2 * predict_ms(base, own))


def test_learning_curves_fall() -> None:
    curves = learning_curve(campaign(100, 30, noise=0.01), layers_of, samples=(8, 60, 300))
    assert [own.samples for own in curves["ridge"]] == [8, 60]
    first, last = curves["gaussian_process"]
    assert last.mape_percent < first.mape_percent
    assert set(curves) == {*PREDICTORS, "macs_line", "lookup"}
    assert learning_curve(campaign(20), layers_of) == {}


def test_each_measurement_is_predicted_without_it() -> None:
    lines = campaign(25, 5)
    lines[3] = measured(lines[3].config, 3 * lines[3].ratio)
    model = fit_latency(lines, layers_of, kinds=["gaussian_process"])
    found = left_out(model, lines, layers_of)
    assert len(found) == 25
    assert found[3].ms < 0.7 * 10 * lines[3].ratio
    line = left_out(model, lines, layers_of, kind="macs_line")
    assert line[0].low_ms < line[0].ms < line[0].high_ms


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(MeasureError, match=r"3 subnets are measured; .* needs 4 or more \(measure\.samples"):
        fit_latency(campaign(5, 2), layers_of)
    with pytest.raises(MeasureError, match="no subnets are measured"):
        fit_latency([], layers_of)
    with pytest.raises(MeasureError, match="no such latency predictor 'rigde'; did you mean 'ridge'"):
        fit_latency(campaign(9), layers_of, kinds=["rigde"])


def test_as_few_as_four_are_fitted() -> None:
    model = fit_latency(campaign(4), layers_of)
    own = predict(model, layers_of(configs(1, seed=2)[0]))
    assert 0 < own.low_ms < own.ms < own.high_ms
