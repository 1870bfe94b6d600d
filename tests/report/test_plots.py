from __future__ import annotations

from dataclasses import replace

import pytest

from bnas.report import EvaluationPoint
from bnas.report.plots import figures
from bnas.search import Constraint


def trace(figure, name):
    return next(t for t in figure["data"] if t.get("name") == name)


def test_the_front_plot_holds_every_point_where_it_belongs(make_report):
    report = make_report()
    figure = figures(report)["front"]
    assert len(trace(figure, "evaluated in the search")["x"]) == 160
    predicted = trace(figure, "front, predicted (before INT8)")
    assert predicted["x"] == [p.predicted_latency_ms for p in report.front]
    assert predicted["y"] == [p.metric_percent for p in report.front]
    measured = trace(figure, "front, measured (INT8 top-1)")
    others = [p for p in report.front if not p.names]
    assert (measured["x"], measured["y"]) == (
        [p.latency_ms for p in others],
        [p.metric_int8_percent for p in others],
    )
    b = next(p for p in report.front if p.names == ("B",))
    assert (trace(figure, "subnet B")["x"], trace(figure, "subnet B")["y"]) == (
        [b.latency_ms],
        [b.metric_int8_percent],
    )
    int8, fp32 = trace(figure, "original, INT8"), trace(figure, "original, FP32")
    assert (int8["x"], int8["y"], fp32["x"], fp32["y"]) == ([1.62], [92.2], [4.87], [92.3])


def test_error_bars_reach_from_the_10th_to_the_90th_percentile(make_report):
    figure = figures(make_report())["front"]
    for name, low, median, high in (
        ("original, INT8", 1.62 * 0.98, 1.62, 1.62 * 1.06),
        ("original, FP32", 4.8, 4.87, 5.1),
    ):
        bar = trace(figure, name)["error_x"]
        assert median - bar["arrayminus"][0] == pytest.approx(low)
        assert median + bar["array"][0] == pytest.approx(high)


def test_each_predicted_point_is_joined_to_its_measured_one(make_report):
    report = make_report()
    joints = next(t for t in figures(report)["front"]["data"] if t.get("line", {}).get("color") == "@joint")
    assert joints["x"][:3] == [report.front[0].predicted_latency_ms, report.front[0].latency_ms, None]
    assert len(joints["x"]) == 3 * len(report.front)


def test_poor_evaluations_do_not_squeeze_the_front(make_report):
    report = make_report(evaluations=(EvaluationPoint(metric_percent=10.0, latency_ms=0.5),))
    layout = figures(report)["front"]["layout"]
    assert layout["yaxis"]["range"][0] > 80
    assert layout["meta"]["below"] == 1


def test_the_latency_axis_is_logarithmic_only_where_latencies_lie_far_apart(make_report):
    axis = figures(make_report())["front"]["layout"]["xaxis"]
    assert axis["type"] == "log"
    assert axis["ticktext"][0] in ("0.2", "0.15")
    assert axis["ticktext"][-1] == "5"
    report = make_report()
    near = replace(report.reference, latency_fp32_ms=1.7)
    front = tuple(p for p in report.front if p.latency_ms > 0.9)
    assert "type" not in figures(make_report(reference=near, front=front))["front"]["layout"]["xaxis"]


def test_the_prediction_plot_tells_each_error(make_report):
    report = make_report()
    figure = figures(report)["prediction"]
    dots = trace(figure, "front")
    assert dots["text"][0] == "-3.0 %"
    assert dots["text"][1] == "+3.0 %"
    assert figure["layout"]["xaxis"]["range"] == figure["layout"]["yaxis"]["range"]


def test_what_there_is_no_data_for_is_not_drawn(make_report):
    assert set(figures(make_report())) == {"front", "prediction", "progress", "importance"}
    bare = make_report(hypervolume=(), front=(), evaluations=(), importance=())
    assert set(figures(bare)) == {"front"}
    unmeasured = tuple(replace(p, latency_ms=None) for p in make_report().front)
    assert set(figures(make_report(front=unmeasured))) == {"front", "progress", "importance"}


def test_one_member_and_equal_latencies_are_drawn(make_report):
    report = make_report()
    assert figures(make_report(front=report.front[:1])).keys() >= {"front", "prediction", "progress"}


def test_every_point_knows_its_subnet(make_report):
    report = make_report()
    data = figures(report)["front"]["data"]
    front = {own.get("name"): own for own in data}
    assert front["evaluated in the search"]["customdata"] == list(range(160))
    # The first evaluations of this report are the front's members.
    assert front["front, predicted (before INT8)"]["customdata"] == list(range(9))
    b = next(i for i, p in enumerate(report.front) if p.names == ("B",))
    assert front["subnet B"]["customdata"] == [b]
    assert front["original, INT8"]["customdata"] == front["original, FP32"]["customdata"] == [160]
    joints = next(own for own in data if own.get("line", {}).get("color") == "@joint")
    assert joints["customdata"][3:6] == [1, 1, 1]
    assert data[-1]["name"] == "ring"


def test_limits_of_the_search_are_lines(make_report):
    limits = (
        Constraint(name="latency_ms", bound="<=", limit=1.5),
        Constraint(name="top1_percent", bound=">=", limit=90.0),
        Constraint(name="macs", bound="<=", limit=1e9),
    )
    lines = figures(make_report(constraints=limits))["front"]["layout"]["shapes"]
    assert [(own["x0"], own["x1"], own["y0"], own["y1"]) for own in lines] == [
        (1.5, 1.5, 0, 1),
        (0, 1, 90.0, 90.0),
    ]
    assert [(own["xref"], own["yref"]) for own in lines] == [("x", "paper"), ("paper", "y")]


def test_a_prediction_counts_at_the_speed_that_the_machine_had(make_report):
    report = make_report()
    front = tuple(replace(p, predicted={"latency_ms": 2.0}) for p in report.front)
    dots = trace(figures(make_report(front=front))["prediction"], "front")
    assert dots["x"] == [2.0] * 9
