from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bnas import progress
from bnas.errors import ModelError, RunError
from bnas.train import checkpoint
from bnas.train.checkpoint import Checkpoints, Position, read_checkpoint

SETTINGS = {"train": {"stages": [{"lr": 0.1}, {"lr": 0.2}]}, "seed": 0}


def at(step: int, stage: int = 1) -> Position:
    return Position(stage=stage, step=step)


def state(value: float) -> dict[str, Any]:
    """A state of which the weights are all `value`."""
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, value)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "ema": None}


def write(folder: Path, *steps: int, **options: Any) -> Checkpoints:
    """Checkpoints at these steps; the weights of each are all its step."""
    checkpoints = Checkpoints(folder, SETTINGS, **options)
    for step in steps:
        checkpoints.save(at(step), state(step))
    return checkpoints


def write_metrics(checkpoints: Checkpoints, metrics: Mapping[int, float], stage: int = 1) -> None:
    for step, metric in metrics.items():
        checkpoints.save(at(step, stage), state(step), metric=metric)


def names(folder: Path) -> list[str]:
    """The files without their digests."""
    return sorted(path.name.rpartition("-")[0] for path in folder.iterdir())


def weight(found: Mapping[str, Any] | None) -> float:
    assert found is not None
    return float(found["model"]["weight"][0, 0])


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(progress, "say", lines.append)
    return lines


def harm(path: Path, how: str = "cut") -> None:
    data = bytearray(path.read_bytes())
    flipped = data[:]
    flipped[len(data) // 2] ^= 1
    path.write_bytes({"cut": data[:-100], "flip": flipped, "empty": b""}[how])


def test_the_newest_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 10)
    assert names(tmp_path) == ["01-00000002", "01-00000010"]
    position, found = Checkpoints(tmp_path, SETTINGS).load()
    assert position == at(10)
    assert found is not None
    assert set(found) == {"model", "optimizer", "ema"}
    assert weight(found) == 10
    assert found["optimizer"]["param_groups"][0]["momentum"] == 0.9


@pytest.mark.parametrize("keep", [1, 3])
def test_the_last_keep_are_kept(tmp_path: Path, keep: int) -> None:
    write(tmp_path, 1, 2, 3, 4, 5, keep=keep)
    assert names(tmp_path) == [f"01-{step:08}" for step in (1, 2, 3, 4, 5)][-keep:]


@pytest.mark.parametrize("how", ["cut", "flip", "empty"])
def test_a_damaged_one_is_reported_and_the_one_before_it_used(
    tmp_path: Path, how: str, said: list[str]
) -> None:
    write(tmp_path, 1, 2)
    newest = max(tmp_path.iterdir())
    harm(newest, how)
    position, found = Checkpoints(tmp_path, SETTINGS).load()
    assert position == at(1)
    assert weight(found) == 1
    assert len(said) == 1
    assert f"warning: {newest} is damaged" in said[0]
    assert names(tmp_path) == ["01-00000001"]


def test_one_that_does_not_write_leaves_everything_as_it_is(tmp_path: Path, said: list[str]) -> None:
    write(tmp_path, 1, 2)
    harm(max(tmp_path.iterdir()))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    reader = Checkpoints(tmp_path, SETTINGS, writes=False)
    assert reader.load()[0] == at(1)
    reader.save(at(3), state(3), metric=1.0)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    bad = state(4)
    bad["model"]["bias"][0] = torch.inf
    with pytest.raises(ModelError, match="bias is not finite"):  # or it would wait for the one that writes
        reader.save(at(4), bad)


def test_one_that_another_process_removes_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    write(tmp_path, 1, 2)
    newest = max(tmp_path.iterdir())
    files = sorted(tmp_path.iterdir())
    monkeypatch.setattr(checkpoint, "state_files", lambda folder, best: [] if best else files)
    newest.unlink()
    assert Checkpoints(tmp_path, SETTINGS, writes=False).load()[0] == at(1)
    assert said == []


def test_none_and_all_damaged_start_afresh(tmp_path: Path, said: list[str]) -> None:
    assert Checkpoints(tmp_path / "none", SETTINGS).load() == (Position(), None)
    write(tmp_path, 1, 2)
    for path in tmp_path.iterdir():
        path.write_bytes(b"PK")
    assert Checkpoints(tmp_path, SETTINGS).load() == (Position(), None)
    assert len(said) == 2


def test_another_training_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    write(tmp_path, 1)
    other = {"train": {"stages": [{"lr": 0.1}, {"lr": 0.3}]}, "seed": 0}
    with pytest.raises(RunError, match=r"train\.stages\[1\]\.lr was 0\.2, is 0\.3; change it back") as caught:
        Checkpoints(tmp_path, other).load()
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match=r"space was None, is 'abc'"):
        Checkpoints(tmp_path, {**SETTINGS, "space": "abc"}).load()
    assert names(tmp_path) == ["01-00000001"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_never_written(tmp_path: Path, value: float) -> None:
    checkpoints = write(tmp_path, 1)
    bad = state(2)
    bad["model"]["bias"][1] = value
    with pytest.raises(ModelError, match=r"bias is not finite; last good checkpoint: .*01-00000001"):
        checkpoints.save(at(2), bad, metric=1.0)
    assert names(tmp_path) == ["01-00000001"]


def test_whole_numbers_in_the_model_are_fine(tmp_path: Path) -> None:
    norm = nn.BatchNorm2d(2)
    Checkpoints(tmp_path, SETTINGS).save(at(1), {"model": norm.state_dict()})
    _, found = Checkpoints(tmp_path, SETTINGS).load()
    assert found is not None
    assert found["model"]["num_batches_tracked"].dtype == torch.int64


def test_the_same_position_is_not_written_twice(tmp_path: Path) -> None:
    checkpoints = write(tmp_path, 1)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    checkpoints.save(at(1), state(1))
    resumed = Checkpoints(tmp_path, SETTINGS)
    resumed.load()
    resumed.save(at(1), state(1))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


def test_the_best_is_kept_and_replaced_only_by_a_better_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, SETTINGS)
    assert checkpoints.best() is None
    write_metrics(checkpoints, {1: 50.0, 2: 70.0, 3: 60.0, 4: 70.0, 5: float("nan")})
    checkpoints.save(at(6), state(6))
    assert names(tmp_path) == ["01-00000005", "01-00000006", "best-01-00000002"]
    best = checkpoints.best()
    assert best is not None
    assert weight(read_checkpoint(best)) == 2


def test_a_loss_is_better_when_lower(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, SETTINGS)
    for step, metric in {1: 0.5, 2: 0.7, 3: 0.6}.items():
        checkpoints.save(at(step), state(step), metric=metric, higher_is_better=False)
    assert names(tmp_path) == ["01-00000002", "01-00000003", "best-01-00000001"]


def test_the_best_survives_a_resume(tmp_path: Path) -> None:
    write_metrics(Checkpoints(tmp_path, SETTINGS), {1: 50.0, 2: 70.0, 3: 60.0})
    resumed = Checkpoints(tmp_path, SETTINGS)
    resumed.load()
    write_metrics(resumed, {4: 65.0, 5: 69.0})
    assert names(tmp_path) == ["01-00000004", "01-00000005", "best-01-00000002"]
    write_metrics(resumed, {6: 71.0})
    assert names(tmp_path) == ["01-00000005", "01-00000006", "best-01-00000006"]


def test_a_later_stage_has_its_own_best(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, SETTINGS)
    write_metrics(checkpoints, {1: 90.0}, stage=0)
    write_metrics(checkpoints, {1: 50.0, 2: 40.0}, stage=1)
    assert names(tmp_path) == ["01-00000001", "01-00000002", "best-01-00000001"]


def test_a_kill_before_the_best_has_its_name_loses_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, SETTINGS)
    write_metrics(checkpoints, {1: 50.0, 2: 70.0})
    best = checkpoints.best()
    assert best is not None
    best.unlink()
    resumed = Checkpoints(tmp_path, SETTINGS)
    resumed.load()
    assert resumed.best() == best
    assert names(tmp_path) == ["01-00000001", "01-00000002", "best-01-00000002"]


def test_a_damaged_newest_does_not_leave_a_damaged_best(tmp_path: Path, said: list[str]) -> None:
    checkpoints = Checkpoints(tmp_path, SETTINGS)
    write_metrics(checkpoints, {1: 50.0, 2: 70.0})
    harm(next(tmp_path.glob("01-00000002-*")))  # and with it the best, which is the same file
    assert checkpoints.best() is None
    resumed = Checkpoints(tmp_path, SETTINGS)
    assert resumed.load()[0] == at(1)
    for metrics, expected in (({}, 1), ({2: 70.0}, 2)):
        write_metrics(resumed, metrics)
        best = resumed.best()
        assert best is not None
        assert weight(read_checkpoint(best)) == expected
    assert names(tmp_path) == ["01-00000001", "01-00000002", "best-01-00000002"]


def test_a_best_that_is_lost_is_forgotten(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, SETTINGS)
    write_metrics(checkpoints, {1: 70.0, 2: 50.0, 3: 40.0})
    best = checkpoints.best()
    assert best is not None
    best.unlink()
    resumed = Checkpoints(tmp_path, SETTINGS)
    resumed.load()
    write_metrics(resumed, {4: 60.0})
    assert names(tmp_path) == ["01-00000003", "01-00000004", "best-01-00000004"]


def test_a_state_saved_again_with_its_metric_becomes_the_best(tmp_path: Path) -> None:
    checkpoints = write(tmp_path, 1, 2)
    checkpoints.save(at(2), state(2), metric=1.0)
    assert names(tmp_path) == ["01-00000001", "01-00000002", "best-01-00000002"]
    resumed = Checkpoints(tmp_path, SETTINGS)
    resumed.load()
    assert resumed.best() == checkpoints.best()


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints(None, SETTINGS)
    assert checkpoints.load() == (Position(), None)
    checkpoints.save(at(1), state(1), metric=1.0)
    assert checkpoints.best() is None
    assert list(tmp_path.iterdir()) == []
