"""A detector's run, from training to report: decided, verified and told by mAP."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_detector import CLASSES, rectangles

from bnas.__main__ import main
from bnas.commands.bench import _images
from bnas.commands.decision import Decision
from bnas.commands.extract import load_subnet, resolution
from bnas.commands.project import open_run
from bnas.commands.verify import Verification
from bnas.data import DATASETS
from bnas.files import read_json
from bnas.report import Report
from bnas.report.card import ModelCard
from bnas.train import evaluate_details

RUN = Path("runs/boxes")
BOXES = (
    "conf=quickstart",
    "name=boxes",
    "threads=1",
    "front_size=3",
    "model={name: 'tiny_detector:tiny_detector', weights: none, options: {}}",
    "data={name: rectangles, size: 64, channels: 3, train_images: 8, val_images: 8, test_images: 8}",
    "pretrain={task: detection, epochs: 60, lr: 0.05, warmup_epochs: 3, batch_size: 8, weight_decay: 0, clip_norm: 10, "
    "precision: float32, evaluate_epochs: 0}",
    "train={task: detection, distill: 0, batch_size: 8, clip_norm: 10, precision: float32, recalibrate_images: 8, "
    "evaluate_epochs: 0, stages: [{name: width, dims: {width: 0}, epochs: 6, lr: 0.01, reorder: true}]}",
    "finetune={task: detection, distill: 0, epochs: 2, lr: 0.005, batch_size: 8, clip_norm: 10, precision: float32}",
    "measure={samples: 6, holdout: 2, retries: 0, min_rounds: 2, max_rounds: 2, block_ms: 1, warmup_ms: 1, "
    "max_ratio_error_percent: 1000}",
    "search={objectives: [map_percent, latency_ms], evaluations: 6, population: 3}",
    "quantize.samples=8",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `boxes`, done to its report; for reading alone."""
    folder = tmp_path_factory.mktemp("boxes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(DATASETS, "rectangles", _rectangles)
        assert main(["run", *BOXES]) == 0
    return folder


def _rectangles(config):
    images = rectangles(config.train_images, config.val_images)
    return replace(images, name=config.name, calibration=images.val)


@pytest.fixture
def there(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(finished)
    monkeypatch.setitem(DATASETS, "rectangles", _rectangles)
    return finished


def test_what_would_stop_it_hours_later_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(DATASETS, "rectangles", _rectangles)
    assert main(["run", *BOXES, "quantize.samples=9"]) == 2
    assert (
        "quantize.samples: 9 images to calibrate on are asked for, the calibration set has 8"
        in capsys.readouterr().err
    )
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    for command in ("run", "pretrain", "train"):
        assert main([command, *BOXES]) == 2
        said = capsys.readouterr().err
        assert "faster_coco_eval is not installed; install it with: pip install 'bnas[detection]'" in said
    assert not list(tmp_path.rglob("pretrain*"))


def test_the_report_is_that_of_the_files_and_of_the_modules(there: Path) -> None:
    project, report = open_run(RUN), read_json(RUN / "report.json", Report)
    verified = read_json(RUN / "verified.json", Verification).networks
    assert (report.task, report.metric, report.metric_label) == ("detection", "map_percent", "mAP")
    assert (
        report.reference.metric_fp32_percent > 20
    )  # it has learnt something: what follows is no game of zeros
    for row in (report.reference, *report.subnets):
        own = verified[row.name]
        assert (row.metric_fp32_percent, row.metric_int8_percent) == (
            own["fp32"].metric_percent,
            own["int8"].metric_percent,
        )
        assert row.details == own["int8"].details
        told = dict(
            evaluate_details(
                load_subnet(project, row.name),
                project.data.test,
                task="detection",
                resolution=resolution(project, row.name),
            )
        )
        assert own["fp32"].metric_percent == pytest.approx(told.pop("map_percent"), abs=0.5)
        assert own["fp32"].details.keys() == told.keys() >= {"map_50_percent", "map_75_percent"}
        for name, value in own["fp32"].details.items():
            assert value == pytest.approx(told[name], abs=0.5)
        assert abs(own["int8"].metric_percent - own["fp32"].metric_percent) < 25


def test_the_search_decides_by_it(there: Path) -> None:
    decision = read_json(RUN / "search/cpu/front.json", Decision)
    assert [goal.name for goal in decision.front.objectives] == ["map_percent", "latency_ms"]
    values = [own.values["map_percent"] for own in decision.front.evaluations]
    assert max(own.values["map_percent"] for own in decision.front.members) == max(values)
    best = max(decision.members, key=lambda own: own.metric_int8_percent)
    assert decision.chosen["A"] == best.config
    assert best.measured["map_percent"] == best.metric_int8_percent


def test_cards_have_details_and_no_interval(there: Path) -> None:
    verified = read_json(RUN / "verified.json", Verification).networks
    card, text = read_json(RUN / "subnets/A/card.json", ModelCard), (RUN / "subnets/A/card.md").read_text()
    assert (card.metric, card.metric_label, card.data.classes) == ("map_percent", "mAP", CLASSES)
    assert card.calibration.split == "calibration"
    for own in card.networks:
        assert own.details == verified["A"][own.name].details
        assert (own.metric_low_percent, own.metric_high_percent) == (None, None)
    assert "| mAP 50, % |" in text
    assert "of the calibration split" in text
    assert not re.search("top.?1", text, re.IGNORECASE)


def test_every_line_of_the_run_speaks_of_it(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = (RUN / "ledger.jsonl").read_text() if (RUN / "ledger.jsonl").exists() else ""
    assert main(["show"]) == 0
    assert main(["show", "report"]) == 0
    assert main(["show", "front", "map_percent>=0"]) == 0
    told = f"{ledger}{capsys.readouterr().out}"
    assert "mAP" in told
    assert "map_percent" in told
    assert not re.search("top-?1", told, re.IGNORECASE)
    assert main(["check", "subnets/A/int8.xml"]) == 2
    assert main(["show", "front", "top1_percent>=0"]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert [line for line in errors if line.startswith("bnas: error: ")] == [
        "bnas: error: train.task: top-1 is for classification, this run's is detection; what its networks are worth on "
        "the test images tells: python -m bnas verify",
        "bnas: error: show front: runs/boxes/search/cpu/front.json has no value 'top1_percent'; did you mean "
        "'map_percent'?",
    ]


def test_a_bench_asks_about_images_without_their_boxes(there: Path) -> None:
    project = open_run(RUN)
    images, labels = _images(project, None, [0, 2])
    assert images.shape == (2, 3, 64, 64)
    assert labels.tolist() == [0, 0]
