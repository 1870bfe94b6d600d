from __future__ import annotations

import pytest

from bnas.report import PredictorError, latency_facts
from bnas.report.latency_words import (
    cost_rows,
    drift_sentence,
    drifts_percent,
    error_cells,
    latency_headline,
    learning_rows,
    off_percent,
    quantity,
)


def test_the_headline_tells_the_error_of_the_kind_that_was_kept(make_latency):
    assert latency_headline(make_latency()) == (
        "20 subnets that the predictor had not seen: off by 0.50 % on average, 90 % within 2 %, "
        "100 % within 5 %, Kendall tau 0.980."
    )
    assert latency_headline(make_latency(held_out=())) == (
        "60 subnets timed; nothing was held out to tell the predictor’s error."
    )


def test_what_was_not_computed_is_a_dash():
    bare = PredictorError(kind="ridge", samples=1200, mape_percent=0.756)
    assert error_cells(bare) == ("1,200", "0.76 %", "–", "–", "–", "–")


def test_learning_curves_are_a_row_for_each_kind(make_latency):
    heads, rows = learning_rows(make_latency())
    assert heads == ("fitted to", "10", "20", "40")
    assert rows[0] == ("Gaussian process", "2.00 %", "1.00 %", "0.50 %")
    assert rows[1][0] == "a line through MACs"
    lone = PredictorError(kind="ridge", samples=7, mape_percent=1.0)
    heads, rows = learning_rows(make_latency(learning=(*make_latency().learning, lone)))
    assert heads == ("fitted to", "7", "10", "20", "40")
    assert rows[-1] == ("ridge", "1.00 %", "–", "–", "–")


def test_costs_are_in_the_order_of_the_work_and_add_up(make_latency):
    rows = cost_rows(make_latency())
    assert [row[0] for row in rows] == ["extract", "deploy", "compile", "time", "together"]
    assert rows[0] == ("extract", "0.125 s", "0.125 s", "7.5 s")
    assert rows[-1] == ("together", "1.625 s", "1.625 s", "97.5 s")
    assert cost_rows(make_latency(subnets=())) == []


def test_drift_is_told_against_the_median_of_the_reference(make_latency):
    report = make_latency()
    drifts = drifts_percent(report)
    assert drifts[0] == 0.0
    assert max(drifts) == pytest.approx(5, abs=0.05)
    told = drift_sentence(report)
    assert "The reference took 1.60 ms (median), and between -5.0 % and +5.0 %" in told
    assert "; 30 disturbed blocks were timed again; 1 of 60 met the cap of rounds" in told


def test_an_error_is_in_per_cent_of_the_measurement(make_latency):
    subnet = make_latency().subnets[0]
    assert off_percent(subnet) == pytest.approx(
        100 * (subnet.predicted_ms - subnet.measured_ms) / subnet.measured_ms
    )


def test_facts_for_the_report_hold_errors_and_neither_dates_nor_coefficients(make_latency):
    facts = latency_facts(make_latency())
    assert facts["kind"] == "Gaussian process"
    assert facts["held_out"] == {
        "mape_percent": 0.5,
        "within_2_percent": 90.0,
        "within_5_percent": 100.0,
        "kendall_tau": 0.98,
        "covered_percent": 95.0,
    }
    assert facts["a line through MACs"]["mape_percent"] == 2.5
    assert (facts["subnets_timed"], facts["subnets_held_out"]) == (60, 20)


def test_in_throughput_a_time_is_no_latency(make_latency):
    assert quantity(make_latency()) == "latency"
    assert quantity(make_latency(scenario="throughput")) == "time of an inference"
