"""The real LoadGen and the real OpenVINO on networks that take microseconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import patterns, small_net

from bnas.data.splits import Batch
from bnas.export import OpenVinoIR, Quantized, convert, export
from bnas.load import Entry, LoadConfig, Samples, Where, bench, run_bench
from bnas.load.bench import SLICES
from bnas.measure import HwConfig, prepare
from bnas.train import evaluate

COUNT = 30
QUICK = LoadConfig(
    seconds=0.03, rounds=2, min_queries=3, search_seconds=0.02, search_steps=2, batch=4, samples=16
)
HERE = Where(threads=1, machine="this one")


class Patterns:
    """30 images of 4 kinds as a split; every fifth label is wrong."""

    classes = ("a", "b", "c", "d")
    shape = (3, 16, 16)

    def __init__(self) -> None:
        self.images = patterns(COUNT, seed=5)
        with torch.no_grad():
            self.labels = small_net()(self.images).argmax(1)
        self.labels[::5] = (self.labels[::5] + 1) % 4

    def __len__(self) -> int:
        return COUNT

    def batch(self, indices: Sequence[int], *, augment: int | None = None, first: int = 0) -> Batch:
        return self.images[list(indices)], self.labels[list(indices)]


@pytest.fixture(scope="module")
def split() -> Patterns:
    return Patterns()


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory, split: Patterns) -> list[Entry]:
    """Two networks that answer differently."""
    made = []
    for name, width in (("reference/fp32", 16), ("A/int8", 8)):
        path = tmp_path_factory.mktemp("bench") / "net.xml"
        model = Quantized(model=convert(small_net(width), patterns(1)))
        artefact = export(model, OpenVinoIR(), path, patterns(1))
        samples = Samples(count=COUNT, load=split.batch)
        made.append(Entry(name=name, path=path, digest=artefact.digest, samples=samples))
    return made


@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Server", "Offline"])
def test_accuracy_mode_equals_evaluate(
    entries: list[Entry], split: Patterns, tmp_path: Path, scenario: str
) -> None:
    rows = run_bench(entries, replace(QUICK, scenarios=(scenario,), rounds=1), tmp_path, HERE)
    for entry, row in zip(entries, rows, strict=True):
        runner = prepare(entry.path, HwConfig(precision="f32", threads=1))
        assert row.top1_percent == evaluate(runner.predict, split)
    assert rows[0].top1_percent == 80.0  # by the labels' making
    assert rows[1].top1_percent != 80.0


def test_logs_rows_and_rounds(entries: list[Entry], tmp_path: Path) -> None:
    config = replace(QUICK, scenarios=("Offline", "Server"), accuracy=False)
    rows = run_bench(entries, config, tmp_path, HERE)
    assert [(row.scenario, row.network) for row in rows] == [
        (scenario, name) for scenario in ("Offline", "Server") for name in ("reference/fp32", "A/int8")
    ]
    order = [json.loads(line) for line in (tmp_path / "bench" / SLICES).read_text().splitlines()]
    offline = [(own["network"], own["round"]) for own in order if own["scenario"] == "Offline"]
    assert offline == [("reference/fp32", 1), ("A/int8", 1), ("A/int8", 2), ("reference/fp32", 2)]
    for row in rows:
        folder = tmp_path / "bench" / row.scenario / row.network
        for number in (1, 2):
            logs = sorted(path.name for path in (folder / f"performance/run_{number}").iterdir())
            assert logs == ["mlperf_log_accuracy.json", "mlperf_log_detail.txt", "mlperf_log_summary.txt"]
        assert len(row.by_round) == 2
        searched = (
            sorted(path.name for path in (folder / "search").iterdir()) if row.scenario == "Server" else []
        )
        assert searched == (["run_1", "run_2"] if row.scenario == "Server" else [])
        assert (row.target_qps is not None) == (row.scenario == "Server")


def test_goes_on_after_the_last_test(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(QUICK, scenarios=("SingleStream",), rounds=1)
    first = run_bench(entries[:1], config, tmp_path, HERE)
    done: list[str] = []
    usual = bench.run_test
    monkeypatch.setattr(
        bench, "run_test", lambda *a: done.append(a[3].relative_to(tmp_path).as_posix()) or usual(*a)
    )
    assert run_bench(entries[:1], config, tmp_path, HERE) == first
    assert done == []
    again = run_bench(entries, replace(config, accuracy=False), tmp_path, HERE)
    assert again[0] == replace(first[0], top1_percent=None)
    assert done == ["bench/SingleStream/A/int8/performance/run_1"]
    run_bench(entries[:1], replace(config, seconds=0.02), tmp_path, HERE)
    run_bench(entries[:1], config, tmp_path, replace(HERE, machine="another"))
    assert len(done) == 5


def test_a_given_rate_is_what_server_sends(entries: list[Entry], tmp_path: Path) -> None:
    config = replace(QUICK, scenarios=("Server",), rounds=1, target_qps=123.0, accuracy=False)
    (row,) = run_bench(entries[:1], config, tmp_path, HERE)
    assert row.target_qps == 123.0
    assert not (tmp_path / "bench/Server/reference/fp32/search").exists()
    assert (
        "target_qps : 123\n"
        in (tmp_path / "bench/Server/reference/fp32/performance/run_1/mlperf_log_summary.txt").read_text()
    )


def test_a_bound_that_cannot_be_met_is_said(entries: list[Entry], tmp_path: Path) -> None:
    config = replace(QUICK, scenarios=("Server",), rounds=1, server_latency_ms=1e-6, accuracy=False)
    (row,) = run_bench(entries[:1], config, tmp_path, HERE)
    assert not row.valid
    assert "Performance constraints not satisfied" in row.reasons
    assert np.isfinite(row.samples_per_s)
