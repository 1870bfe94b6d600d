from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from bnas import progress
from bnas.errors import ModelError, RunError
from bnas.train.checkpoint import Checkpoints, Position

SETTINGS = {"train": {"stages": [{"lr": 0.1}, {"lr": 0.2}]}, "seed": 0}


def at(step: int) -> Position:
    return Position(stage=1, step=step)


def write(folder: Path, *steps: int) -> nn.Linear:
    """Checkpoints at these steps; the weights of each are all its step."""
    model, checkpoints = nn.Linear(2, 2), Checkpoints(folder, SETTINGS)
    for step in steps:
        nn.init.constant_(model.weight, step)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        checkpoints.save(at(step), model, optimizer)
    return model


def test_the_newest_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 10)
    assert sorted(path.name[:11] for path in tmp_path.iterdir()) == ["01-00000002", "01-00000010"]
    model, checkpoints = nn.Linear(2, 2), Checkpoints(tmp_path, SETTINGS)
    position, optimizer = checkpoints.load(model)
    assert position == at(10)
    assert optimizer is not None
    assert bool((model.weight == 10).all())
    assert checkpoints.last is not None
    assert checkpoints.last.name.startswith("01-00000010")


@pytest.mark.parametrize("harm", ["cut", "flip", "empty"])
def test_a_damaged_one_is_reported_and_the_one_before_it_used(
    tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1, 2)
    newest = max(tmp_path.iterdir())
    data = bytearray(newest.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
    newest.write_bytes({"cut": data[:-100], "flip": data, "empty": b""}[harm])
    said: list[str] = []
    monkeypatch.setattr(progress, "say", said.append)
    model = nn.Linear(2, 2)
    position, _ = Checkpoints(tmp_path, SETTINGS).load(model)
    assert position == at(1)
    assert bool((model.weight == 1).all())
    assert len(said) == 1
    assert f"warning: {newest} is damaged" in said[0]


def test_none_and_all_damaged_start_afresh(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    before = model.weight.clone()
    assert Checkpoints(tmp_path / "none", SETTINGS).load(model) == (Position(), None)
    write(tmp_path, 1, 2)
    for path in tmp_path.iterdir():
        path.write_bytes(b"PK")
    assert Checkpoints(tmp_path, SETTINGS).load(model) == (Position(), None)
    assert torch.equal(model.weight, before)


def test_another_training_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    write(tmp_path, 1)
    other = {"train": {"stages": [{"lr": 0.1}, {"lr": 0.3}]}, "seed": 0}
    with pytest.raises(RunError, match=r"train\.stages\[1\]\.lr was 0\.2, is 0\.3; change it back"):
        Checkpoints(tmp_path, other).load(nn.Linear(2, 2))
    assert len(list(tmp_path.iterdir())) == 1


def test_weights_that_are_not_finite_are_never_written(tmp_path: Path) -> None:
    model = write(tmp_path, 1)
    checkpoints = Checkpoints(tmp_path, SETTINGS)
    checkpoints.load(model)
    with torch.no_grad():
        model.bias[1] = torch.nan
    with pytest.raises(ModelError, match=r"bias is not finite; last good checkpoint: .*01-00000001"):
        checkpoints.save(at(2), model)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_same_position_is_not_written_twice(tmp_path: Path) -> None:
    model, checkpoints = nn.Linear(2, 2), Checkpoints(tmp_path, SETTINGS)
    checkpoints.save(at(1), model)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    checkpoints.save(at(1), model)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints(None, SETTINGS)
    assert checkpoints.load(nn.Linear(2, 2)) == (Position(), None)
    checkpoints.save(at(1), nn.Linear(2, 2))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        Checkpoints(tmp_path / "file" / "below", SETTINGS).save(at(1), nn.Linear(2, 2))
