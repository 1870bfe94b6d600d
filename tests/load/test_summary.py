from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
from answering import Answering, numbered

from bnas.errors import MeasureError, RunError
from bnas.load import LoadTest, read_answers, read_result, run_test, top1_percent

MANY = LoadTest(scenario="SingleStream", seconds=0.05, queries=70, queries_per_s=5000)


def _at(latencies: list[float], share: float) -> float:
    return latencies[int(len(latencies) * share)]


@pytest.mark.parametrize(("scenario", "batch"), [("SingleStream", 1), ("MultiStream", 8), ("Server", 1)])
def test_latencies_beside_our_own_timestamps(tmp_path: Path, scenario: str, batch: int) -> None:
    """LoadGen's span of a query encloses ours: each percentile of LoadGen's is at least ours."""
    queue = Answering(batch, seconds=0.0005)
    rate = 500.0 if scenario == "Server" else 5000.0
    run_test(queue, numbered(20), replace(MANY, scenario=scenario, queries_per_s=rate), tmp_path)
    result, own = read_result(tmp_path), queue.latencies_ms
    assert result.queries == len(own)
    assert result.mean_ms >= sum(own) / len(own)
    for said, share in ((result.p50_ms, 0.5), (result.p90_ms, 0.9), (result.p99_ms, 0.99)):
        assert said >= _at(own, share)
    assert result.mean_ms <= result.max_ms
    spent = [end - began for began, end in queue.spans]
    most = {  # images answered per second, at most: by what our own timestamps leave of the time
        "SingleStream": 1 / mean(spent[:-1]),  # its clock stops when the last query is sent
        "MultiStream": batch / mean(spent),
        "Server": (len(own) - 1) / (queue.spans[-1][1] - queue.spans[0][0]),
    }
    assert 0 < result.samples_per_s <= 1.0001 * most[scenario]


def test_offline_beside_our_own_timestamps(tmp_path: Path) -> None:
    queue = Answering(4, seconds=0.0005)
    run_test(queue, numbered(20), replace(MANY, scenario="Offline"), tmp_path)
    result = read_result(tmp_path)
    seconds = max(end for _, end in queue.spans) - min(began for began, _ in queue.spans)
    assert sum(queue.sizes) == int(1.1 * 0.05 * 5000)
    assert result.samples_per_s <= 1.0001 * sum(queue.sizes) / seconds


def test_valid(tmp_path: Path) -> None:
    run_test(Answering(seconds=0.0005), numbered(20), MANY, tmp_path)
    result = read_result(tmp_path)
    assert result.valid
    assert result.reasons == ()


def test_too_few_queries_are_invalid_and_loadgen_says_why(tmp_path: Path) -> None:
    run_test(Answering(), numbered(20), replace(MANY, seconds=0.001, queries=5, queries_per_s=10), tmp_path)
    result = read_result(tmp_path)
    assert not result.valid
    assert "Early stopping not satisfied" in result.reasons
    assert "Need to process at least 64 queries for early stopping." in result.reasons


def test_a_rate_that_cannot_be_met_is_invalid(tmp_path: Path) -> None:
    """An inference takes longer than the bound, so no query is in time."""
    queue = Answering(seconds=0.003)
    test = replace(MANY, scenario="Server", queries=20, queries_per_s=200, server_latency_ms=1.0)
    run_test(queue, numbered(20), test, tmp_path)
    result = read_result(tmp_path)
    assert not result.valid
    assert "Performance constraints not satisfied" in result.reasons
    assert "Reduce target QPS to improve latency." in result.reasons


def test_running_out_of_queries_is_said(tmp_path: Path) -> None:
    """LoadGen was told of a slower network, and made too few queries beforehand."""
    run_test(Answering(), numbered(20), replace(MANY, seconds=5, queries=1, queries_per_s=1), tmp_path)
    reasons = " ".join(read_result(tmp_path).reasons)
    assert "Min duration not satisfied" in reasons
    assert "Ran out of generated queries" in reasons


def test_accuracy(tmp_path: Path) -> None:
    labels = run_test(Answering(), numbered(20, wrong=3), replace(MANY, accuracy=True), tmp_path)
    assert top1_percent(read_answers(tmp_path), labels) == 85.0


def test_answers_that_are_missing_are_not_overlooked() -> None:
    with pytest.raises(MeasureError, match="lacks 1 of 2 images"):
        top1_percent({0: 1}, {0: 1, 1: 1})


def test_logs_of_another_kind_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        read_result(tmp_path)
    (tmp_path / "mlperf_log_detail.txt").write_text(':::MLLOG {"key": "result_validity", "value": "VALID"}\n')
    with pytest.raises(RunError, match="incomplete: no 'effective_scenario'"):
        read_result(tmp_path)
    (tmp_path / "mlperf_log_detail.txt").write_text(":::MLLOG {\n")
    with pytest.raises(RunError, match="is damaged"):
        read_result(tmp_path)
    (tmp_path / "mlperf_log_accuracy.json").write_text('[\n{ "seq_id" : 0, "qsl_idx" : 1, "data" : "07"')
    with pytest.raises(RunError, match="is damaged"):
        read_answers(tmp_path)
    (tmp_path / "mlperf_log_accuracy.json").write_text('[{ "seq_id" : 0, "qsl_idx" : 1, "data" : "07" }]')
    with pytest.raises(MeasureError, match="image 1 was answered with 1 bytes"):
        read_answers(tmp_path)
