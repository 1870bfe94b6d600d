from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bnas.report.latency_plots import (
    cost_plot,
    drift_plot,
    errors_plot,
    latency_figures,
    learning_plot,
    predicted_plot,
    residuals_plot,
)


def named(figure):
    return {trace["name"]: trace for trace in figure["data"]}


def test_predictions_stand_at_their_measured_latency_with_their_error_bars(make_latency):
    report = make_latency()
    points = named(predicted_plot(report))
    held_out = [s for s in report.subnets if s.role == "held_out"]
    assert len(held_out) == 20
    assert points["held out"]["x"] == [s.measured_ms for s in held_out]
    assert points["held out"]["y"] == [s.predicted_ms for s in held_out]
    bars = points["held out"]["error_y"]
    np.testing.assert_allclose(
        np.array(points["held out"]["y"]) - bars["arrayminus"], [s.low_ms for s in held_out]
    )
    np.testing.assert_allclose(
        np.array(points["held out"]["y"]) + bars["array"], [s.high_ms for s in held_out]
    )
    assert len(points["cross-validated"]["x"]) == 40
    assert points["a line through MACs"]["y"] == [s.macs_line_ms for s in report.subnets]


def test_the_band_is_five_per_cent_to_each_side(make_latency):
    band = named(predicted_plot(make_latency()))["±5 %"]
    shares = np.array(band["y"]) / np.array(band["x"])
    np.testing.assert_allclose(shares, [1.05, 1.05, 0.95, 0.95])


def test_both_axes_of_predicted_against_measured_are_one_range_with_every_point(make_latency):
    report = make_latency()
    layout = predicted_plot(report)["layout"]
    low, high = layout["xaxis"]["range"]
    assert layout["yaxis"]["range"] == [low, high]
    assert all(
        low < x < high for s in report.subnets for x in (s.measured_ms, s.predicted_ms, s.macs_line_ms)
    )
    assert layout["xaxis"]["title"]["text"] == "measured latency, ms"
    title = predicted_plot(make_latency(scenario="throughput"))["layout"]["xaxis"]["title"]["text"]
    assert title == "measured time of an inference, ms"


def test_residuals_are_in_per_cent_and_so_are_their_error_bars(make_latency):
    report = make_latency()
    points = named(residuals_plot(report))["held out"]
    first = next(s for s in report.subnets if s.role == "held_out")
    assert points["y"][0] == pytest.approx(100 * (first.predicted_ms / first.measured_ms - 1))
    assert points["error_y"]["array"][0] == pytest.approx(2 * first.predicted_ms / first.measured_ms)
    assert points["error_y"]["arrayminus"][0] == pytest.approx(2 * first.predicted_ms / first.measured_ms)
    low, high = residuals_plot(report)["layout"]["yaxis"]["range"]
    assert -low == high >= 5


def test_a_wild_line_through_macs_does_not_squeeze_the_residuals(make_latency):
    report = make_latency()
    wild = tuple(replace(s, macs_line_ms=9 * s.measured_ms) for s in report.subnets)
    assert residuals_plot(replace(report, subnets=wild))["layout"]["yaxis"]["range"][1] <= 11 * 1.0001


def test_a_prediction_without_an_error_bar_has_a_bar_of_no_length(make_latency):
    report = make_latency()
    bare = tuple(replace(s, low_ms=None, high_ms=None) for s in report.subnets)
    for plot in (predicted_plot, residuals_plot):
        bars = named(plot(replace(report, subnets=bare)))["held out"]["error_y"]
        assert set(bars["array"]) == set(bars["arrayminus"]) == {0.0}


def test_each_kind_has_a_learning_curve_by_samples(make_latency):
    lines = named(learning_plot(make_latency()))
    assert list(lines) == ["Gaussian process", "a line through MACs", "a table of layers"]
    assert (lines["Gaussian process"]["x"], lines["Gaussian process"]["y"]) == ([10, 20, 40], [2.0, 1.0, 0.5])
    assert lines["Gaussian process"]["line"]["width"] > lines["a line through MACs"]["line"]["width"]
    assert learning_plot(make_latency())["layout"]["xaxis"]["tickvals"] == [10, 20, 40]


def test_drift_is_over_the_time_that_passed(make_latency):
    report = make_latency()
    line = named(drift_plot(report))["reference"]
    assert line["x"][-1] == pytest.approx(59 * 90 / 60)
    assert drift_plot(report)["layout"]["xaxis"]["title"]["text"] == "minutes since the campaign began"
    assert line["y"][14] == pytest.approx(100 * (report.subnets[14].reference_ms / 1.6 - 1))
    long = tuple(replace(s, began=s.began * 1.0 + 3600 * i) for i, s in enumerate(report.subnets))
    assert "hours" in drift_plot(replace(report, subnets=long))["layout"]["xaxis"]["title"]["text"]


def test_subnets_that_met_the_cap_are_told_apart(make_latency):
    traces = named(errors_plot(make_latency()))
    assert traces["at the cap of rounds"]["x"] == [8]
    assert len(traces["under its target"]["x"]) == 59
    assert traces["at the cap of rounds"]["text"] == ["27 rounds, 1 blocks again"]


def test_costs_are_stacked_in_the_order_of_the_work(make_latency):
    figure = cost_plot(make_latency())
    assert figure["layout"]["barmode"] == "stack"
    assert [bar["name"] for bar in figure["data"]] == ["extract", "deploy", "compile", "time"]
    assert sum(bar["y"][5] for bar in figure["data"]) == pytest.approx(1.625)


def test_only_what_there_is_data_for_is_drawn(make_latency):
    report = make_latency()
    assert list(latency_figures(report)) == ["predicted", "residuals", "learning", "drift", "errors", "cost"]
    unpredicted = tuple(replace(s, predicted_ms=None, seconds={}) for s in report.subnets)
    assert list(latency_figures(replace(report, subnets=unpredicted, learning=()))) == ["drift", "errors"]
    assert latency_figures(make_latency(subnets=(), learning=())) == {}


def test_a_single_subnet_can_be_drawn(make_latency):
    report = make_latency()
    lone = replace(report, subnets=report.subnets[2:3])
    assert list(latency_figures(lone)) == ["predicted", "residuals", "learning", "drift", "errors", "cost"]
    assert predicted_plot(lone)["layout"]["xaxis"]["range"][0] < report.subnets[2].measured_ms
