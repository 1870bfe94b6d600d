"""The report of a campaign, with predictors that say what they are, so that none can stand in for another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnas.__main__ import main
from bnas.commands import latency_report
from bnas.commands.invocation import Invocation
from bnas.commands.latency_report import read_campaign, show_campaign, write_campaign
from bnas.commands.project import Project, open_project
from bnas.errors import RunError
from bnas.measure import Hardware, LatencyModel, Measurement
from bnas.measure.latency import Figures, Prediction
from bnas.space import costs

HARDWARE = Hardware(
    cpu="Xeon", physical_cores=2, logical_cores=4, flags=(), memory_gib=8, os="Linux", runtime="openvino",
    runtime_version="1", cpus=(0,), frequency_mhz=None, governor=None, host="here",
)  # fmt: skip


class Model(LatencyModel):
    """Predicts `says`, whatever the subnet."""

    def __init__(self, says: float, kind: str, base: Any = None) -> None:
        figures = Figures(
            count=2,
            samples=4,
            mape_percent=says,
            within_2_percent=50.0,
            within_5_percent=100.0,
            kendall_tau=0.5,
        )
        names = {kind: figures, "macs_line": replace(figures, mape_percent=9.0)}
        values = {
            "kind": kind, "coverage_percent": 95.0, "scenario": "latency", "reference_ms": 2.0, "base": base,
            "hardware": HARDWARE, "cross_validated": names, "held_out": names, "says": says,
        }  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("latency")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert main(["build", "model=tiny_resnet"]) == 0
    return home


@pytest.fixture
def project(home: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(home)
    return open_project(Invocation(command="measure"))


@pytest.fixture
def lines(project: Project) -> list[Measurement]:
    """Six subnets, the last two held out; written down in another order than that in which they were timed."""
    rng = np.random.default_rng(0)
    return [
        Measurement(
            config=project.space.sample(rng), space=project.space.digest, role="held_out" if i >= 4 else "fit",
            time_ms=9.0, p10_ms=9.0, p90_ms=9.0, p99_ms=9.0, ratio=0.5 + i / 100, ratio_p10=0.5, ratio_p90=0.5,
            ratio_error_percent=0.25, converged=True, reference_ms=3.0, rounds=10, calls=20, disturbed=1, batch=1,
            threads=1, streams=0, precision="int8", scenario="latency", artefact="0" * 64, size_bytes=1000,
            seconds={"time": 0.5}, memory_bytes=None, energy_mj=None, began=100.0 - i, hardware=HARDWARE,
        )
        for i in range(6)
    ]  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What models were fitted to; each kind answers with a number of its own."""
    seen: list[Any] = []

    def left_out(
        model: Any, lines: Sequence[Measurement], layers: Any, *, kind: Any = None
    ) -> list[Prediction]:
        says = {"ridge": 1.0, "macs_line": 8.0}[kind or model.kind]
        return [Prediction(ms=says + line.ratio, low_ms=says, high_ms=says + 2) for line in lines]

    def predict_many(model: Any, subnets: Sequence[Any]) -> list[Prediction]:
        return [Prediction(ms=model.says, low_ms=model.says, high_ms=model.says) for _ in subnets]

    def learning_curve(
        lines: Any, layers: Any, *, samples: Any, kinds: Sequence[str]
    ) -> dict[str, tuple[Figures, ...]]:
        assert samples == [4]  # all there are: too few for ten
        figures = Model(3.0, "ridge").held_out["ridge"]
        return dict.fromkeys(kinds, (figures,))

    for stub in (left_out, predict_many, learning_curve):
        monkeypatch.setattr(latency_report, stub.__name__, stub)
    return seen


def never(_: Any) -> LatencyModel:
    raise AssertionError("a model of this hardware alone is not fitted again")


def test_every_subnet_has_the_prediction_of_a_model_that_was_fitted_without_it(
    project: Project, lines: list[Measurement], asked: list[Any]
) -> None:
    report = latency_report.latency_report(project, lines, Model(0.0, "ridge"), never)
    ratios = [line.ratio for line in lines[::-1]]
    assert [s.predicted_ms for s in report.subnets] == pytest.approx([1 + ratio for ratio in ratios])
    assert [s.macs_line_ms for s in report.subnets] == pytest.approx([8 + ratio for ratio in ratios])
    assert {s.role: (s.low_ms, s.high_ms) for s in report.subnets} == dict.fromkeys(
        ("fit", "held_out"), (1.0, 3.0)
    )


def test_subnets_are_in_the_order_of_timing_and_told_by_their_ratio(
    project: Project, lines: list[Measurement], asked: list[Any]
) -> None:
    report = latency_report.latency_report(project, lines, Model(0.0, "ridge"), never)
    assert [s.config_digest for s in report.subnets] == [line.config.digest for line in lines[::-1]]
    assert [s.measured_ms for s in report.subnets] == pytest.approx([2 * line.ratio for line in lines[::-1]])
    assert [s.macs for s in report.subnets] == [
        costs(project.graph, project.space, line.config).macs for line in lines[::-1]
    ]
    assert [error.kind for error in report.held_out] == ["ridge", "macs_line"]
    assert [error.kind for error in report.learning] == ["ridge", "macs_line", "lookup"]


def test_a_model_carried_over_is_judged_on_held_out_subnets_alone(
    project: Project, lines: list[Measurement], asked: list[Any]
) -> None:
    source = Model(0.0, "ridge")

    def refit(fit: Sequence[Measurement]) -> LatencyModel:
        asked.append({line.role for line in fit})
        return Model(2.0, "scale", base=source)

    report = latency_report.latency_report(project, lines, Model(0.0, "scale", base=source), refit)
    assert asked == [{"fit"}]
    assert {s.role: s.predicted_ms for s in report.subnets} == {"fit": None, "held_out": 2.0}
    assert report.learning == ()


def test_what_is_written_is_shown_and_drawn(
    project: Project, lines: list[Measurement], asked: list[Any], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with pytest.raises(RunError, match="python -m bnas measure"):
        read_campaign(project)
    written = write_campaign(project, lines, Model(0.0, "ridge"), never)
    monkeypatch.setattr(type(project.folder), "done", lambda *_: True)
    assert read_campaign(project) == written
    show_campaign(project)
    told = capsys.readouterr().out
    assert "2 subnets that the predictor had not seen" in told
    page = project.folder.path("latency", project.hw_folder, "latency.html")
    assert str(page) in told
    assert "latency-predicted" in page.read_text(encoding="utf-8")
    assert list(project.folder.path("tensorboard", "latency", project.hw_folder).glob("events.*"))
