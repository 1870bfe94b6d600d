from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.detection import bars, figures_of, spread
from benchmarks.detection_cases import CASES, arguments, chosen
from bnas.compose import compose
from bnas.config import RunConfig
from bnas.files import read_json, write_json
from bnas.plain import from_plain
from bnas.report import Report
from bnas.report.types import SubnetReport


def network(name: str, fp32: float, int8: float, speedup: float) -> SubnetReport:
    return SubnetReport(
        name=name, config={}, metric_fp32_percent=fp32, metric_int8_percent=int8, latency_ms=8 / speedup,
        latency_fp32_ms=24 / speedup, latency_p10_ms=1.0, latency_p90_ms=9.0, throughput_per_s=100.0, macs=10,
        parameters=20, size_bytes=30, speedup_vs_fp32=3 * speedup, speedup_vs_int8=speedup, command="",
    )  # fmt: skip


def report() -> Report:
    """A detector of 40.0 mAP, 39.5 in INT8; A has 0.5 more than that, B as much, C 3 less."""
    anything: dict[str, Any] = {}
    return Report(
        run="composed_ssd_0", task="detection", metric="map_percent", metric_label="mAP", dataset="composed_scenes",
        reference=network("original", 40.0, 39.5, 1.0),
        subnets=(
            network("A", 40.5, 40.0, 1.6), network("B", 39.9, 39.5, 2.5), network("C", 37.0, 36.5, 4.0)
        ),
        reference_val_fp32_percent=41.0, reference_val_int8_percent=40.5, front=(), evaluations=(),
        hardware=anything, protocol={"threads": 2}, latency_model=anything, space=anything,
    )  # fmt: skip


def test_figures_are_those_of_the_report_that_a_run_writes(tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", report())
    found = figures_of(read_json(tmp_path / "report.json", Report))
    assert found["original_map_fp32_percent"] == 40.0
    assert found["original_map_int8_percent"] == 39.5
    assert found["original_latency_fp32_ms"] == 24.0
    assert found["original_latency_int8_ms"] == 8.0
    assert found["B_latency_int8_ms"] == 3.2
    assert found["B_lost_points"] == pytest.approx(0.5)
    assert found["C_speedup_vs_fp32"] == 12.0
    assert found["speedup_at_published_points"] == 1.6  # A alone has 0.43 more
    assert found["speedup_without_loss"] == 2.5
    assert not any("original_speedup" in key for key in found)


def test_no_subnet_is_as_good_as_published() -> None:
    own = report()
    worse = replace(own, subnets=tuple(replace(x, metric_int8_percent=39.92) for x in own.subnets))
    assert figures_of(worse)["speedup_at_published_points"] == 0.0
    assert figures_of(worse)["speedup_without_loss"] == 4.0


def test_bars_of_the_median_over_the_seeds() -> None:
    good = figures_of(report())
    runs = [good, {**good, "B_lost_points": 1.5}, {**good, "B_lost_points": 0.9, "D_lost_points": 0.0}]
    figures = {"composed_ssd": spread(runs)}
    assert figures["composed_ssd"]["B_lost_points"] == {"median": 0.9, "least": 0.5, "most": 1.5}
    assert "D_lost_points" not in figures["composed_ssd"]
    found = bars(figures)
    assert [(bar.value, bar.holds) for bar in found.values()] == [(1.6, True), (0.9, True)]
    assert all(name.startswith("composed_ssd: ") for name in found)
    missed = bars(
        {"composed_ssd": spread([{**good, "speedup_at_published_points": 1.5, "B_lost_points": 1.1}])}
    )
    assert [bar.holds for bar in missed.values()] == [False, False]


def test_photographs_are_left_out_unless_there_are_some() -> None:
    cases, left_out = chosen(None, None)
    assert [case.name for case in cases] == ["composed_retinanet", "composed_ssd"]
    assert len(left_out) == 1
    assert "--deepforest FOLDER" in left_out[0]
    assert [case.name for case in chosen(["deepforest_retinanet"], Path("x"))[0]] == ["deepforest_retinanet"]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_every_case_composes(name: str, quick: bool, tmp_path: Path) -> None:
    found = arguments(CASES[name], "x", tmp_path, seed=3, quick=quick, photographs=tmp_path, starts_from="y")
    command, conf, *overrides = found
    assert (command, conf) == ("run", "conf=detection")
    config = from_plain(RunConfig, compose("detection", overrides))
    assert config.seed == 3
    assert config.data.size == 256
    assert config.train.task == "detection"
    assert config.search.objectives == ("map_percent", "latency_ms")
    assert config.model.name == ("ssd_resnet34" if "ssd" in name else "retinanet")
    assert (config.data.root == str(tmp_path)) == CASES[name].photographs
    assert config.model.weights == "none"
    assert len(config.train.stages) == (1 if quick else 2)
    assert {dim for stage in config.train.stages for dim in stage.dims} == set(config.space.dims)


def test_photographs_go_on_from_composed_scenes(tmp_path: Path) -> None:
    weights = tmp_path / "runs" / "y" / "weights" / "pretrained.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    words: dict[str, Any] = {"seed": 0, "quick": False, "photographs": tmp_path, "starts_from": "y"}
    found = arguments(CASES["deepforest_retinanet"], "x", tmp_path, **words)
    assert found[-2:] == [f"model.weights={weights}", "model.head=new"]
    assert "model.head=new" not in arguments(CASES["composed_ssd"], "x", tmp_path, **words)
