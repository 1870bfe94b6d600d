"""The curves as TensorBoard's own reader sees them."""

from __future__ import annotations

import pytest

from bnas.errors import RunError
from bnas.report import write_latency_curves


@pytest.fixture
def read():
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def of(folder):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        return events

    return of


def test_predictions_stand_at_their_measured_latency(make_latency, tmp_path, read):
    report = make_latency()
    write_latency_curves(report, tmp_path)
    events = read(tmp_path)
    points = events.Scalars("predicted_against_measured/predicted_ms")
    by_latency = sorted(report.subnets, key=lambda subnet: subnet.measured_ms)
    expected = [(round(1000 * s.measured_ms), s.predicted_ms) for s in by_latency]
    assert [(p.step, pytest.approx(p.value, rel=1e-6)) for p in points] == expected
    residuals = [p.value for p in events.Scalars("residual_percent")]
    assert max(map(abs, residuals)) < 3


def test_the_campaign_is_in_the_order_of_timing_and_at_its_time(make_latency, tmp_path, read):
    report = make_latency()
    write_latency_curves(report, tmp_path)
    events = read(tmp_path)
    points = events.Scalars("campaign/reference_ms")
    assert [p.step for p in points] == list(range(1, 61))
    assert [p.wall_time for p in points] == [s.began for s in report.subnets]
    assert {p.value for p in events.Scalars("campaign/seconds_time")} == {0.75}


def test_learning_curves_are_by_samples_and_one_chart_shows_all(make_latency, tmp_path, read):
    write_latency_curves(make_latency(), tmp_path)
    events = read(tmp_path)
    points = events.Scalars("learning_curve/gaussian_process")
    assert [(p.step, p.value) for p in points] == [(10, 2.0), (20, 1.0), (40, 0.5)]
    tags = set(events.Tags()["scalars"])
    layout = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    for tag in ("learning_curve/macs_line", "predicted_against_measured/high_ms"):
        assert tag in tags
        assert tag.encode() in layout


def test_written_again_it_has_no_doubled_points(make_latency, tmp_path, read):
    write_latency_curves(make_latency(), tmp_path)
    write_latency_curves(make_latency(), tmp_path)
    assert len(read(tmp_path).Scalars("campaign/reference_ms")) == 60


def test_a_campaign_without_a_predictor_has_curves_too(make_latency, tmp_path, read):
    report = make_latency(held_out=(), learning=(), subnets=())
    write_latency_curves(report, tmp_path)
    assert read(tmp_path).Tags()["scalars"] == []


def test_a_folder_that_cannot_be_written(make_latency, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write_latency_curves(make_latency(), tmp_path / "file")
