from __future__ import annotations

from pathlib import Path

import pytest
import toy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bnas.train import loop
from bnas.train.curves import Curves
from bnas.train.loop import train_step


def read(folder: Path) -> dict[str, list[int]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [point.step for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_points_after_the_resumed_step_are_not_doubled(tmp_path: Path) -> None:
    with Curves(tmp_path, 0) as curves:
        for step in range(5):
            curves.add(step, {"loss": 1.0})
    with Curves(tmp_path, 3) as curves:
        for step in range(3, 7):
            curves.add(step, {"loss": 2.0})
    assert read(tmp_path) == {"loss": [0, 1, 2, 3, 4, 5, 6]}


def test_a_resumed_training_has_the_points_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "STEPS_PER_POINT", 2)
    toy.run("train", tmp_path / "a", tensorboard=tmp_path / "whole")
    whole = read(tmp_path / "whole")
    # two stages of 6 steps, each with a step of its own for its end: 0…5, 6 and 7…12, 13
    assert whole == {
        "loss": [1, 3, 5, 8, 10, 12],
        "lr": [1, 3, 5, 8, 10, 12],
        "images_per_s": [1, 3, 5, 8, 10, 12],
        "top1_percent/largest": [6, 13],
        "top1_percent/smallest": [6, 13],
    }
    count = 0

    def killed_step(*args: object) -> float:
        nonlocal count
        count += 1
        if count in (5, 12):
            raise RuntimeError("killed")
        return train_step(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_step", killed_step)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="killed"):
            toy.run("train", tmp_path / "b", seconds=1e9, tensorboard=tmp_path / "resumed")
    toy.run("train", tmp_path / "b", seconds=1e9, tensorboard=tmp_path / "resumed")
    assert read(tmp_path / "resumed") == whole


def test_points_before_a_checkpoint_are_on_disk_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that after a kill -9, which closes no file, the curve has no gap."""
    monkeypatch.setattr(loop, "STEPS_PER_POINT", 1)
    seen: list[list[int]] = []

    def looking_step(*args: object) -> float:
        seen.append(read(tmp_path / "curves").get("loss", []))
        return train_step(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_step", looking_step)
    toy.run("pretrain", tmp_path / "checkpoints", seconds=0, tensorboard=tmp_path / "curves")
    assert seen == [list(range(step)) for step in range(10)]


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Curves(None, 0) as curves:
        curves.add(0, {"loss": 1.0})
        curves.flush()
    assert list(tmp_path.iterdir()) == []
