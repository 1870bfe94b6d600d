from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from bnas.errors import RunError
from bnas.train import loop
from bnas.train.curves import HISTORY, Curves, Point, read_history
from bnas.train.loop import train_step


def events_of(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0})  # 0: all
    events.Reload()
    return events


def read(folder: Path) -> dict[str, list[int]]:
    """The steps of each scalar, which are the same in the event files and in the history."""
    events = events_of(folder)
    steps = {tag: [point.step for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    history: dict[str, list[int]] = {}
    for point in read_history(folder):
        for name in point.values:
            history.setdefault(name, []).append(point.step)
    assert history == steps
    return steps


def told(folder: Path) -> list[Point]:
    """The history but for the speed."""
    return [
        replace(point, values={name: x for name, x in point.values.items() if name != "images_per_s"})
        for point in read_history(folder)
    ]


def draw(folder: Path, steps: range, value: float) -> None:
    """The curves of a process that starts at the first of these steps."""
    with Curves(folder, steps.start) as curves:
        for step in steps:
            curves.add(step, {"loss": value})
            curves.histogram(step, "macs", [value, 3])


def test_points_after_the_resumed_step_are_not_doubled(tmp_path: Path) -> None:
    draw(tmp_path, range(5), 1.0)
    draw(tmp_path, range(3, 7), 2.0)
    assert read(tmp_path) == {"loss": [0, 1, 2, 3, 4, 5, 6]}
    points = [point for point in read_history(tmp_path) if point.values]
    assert [point.values["loss"] for point in points] == [1, 1, 1, 2, 2, 2, 2]
    assert [point.step for point in events_of(tmp_path).Histograms("macs")] == list(range(7))
    drawn = [point.drawn["macs"] for point in read_history(tmp_path) if point.drawn]
    assert drawn == [(1, 3)] * 3 + [(2, 3)] * 4


def test_a_training_that_starts_afresh_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    draw(tmp_path, range(5), 1.0)
    draw(tmp_path, range(2), 2.0)
    assert read(tmp_path) == {"loss": [0, 1]}


def test_a_line_that_a_kill_or_a_power_cut_tore_is_dropped(tmp_path: Path) -> None:
    draw(tmp_path, range(3), 1.0)
    path = tmp_path / HISTORY
    torn = path.read_bytes() + b'{"step":3,"val'
    path.write_bytes(torn)
    assert len(read_history(tmp_path)) == 6  # as another process sees it
    path.write_bytes(torn + b"\0\0\n{}\n")
    draw(tmp_path, range(3, 4), 1.0)
    assert [point.step for point in read_history(tmp_path)] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_history_holds_nothing_but_what_was_told(tmp_path: Path) -> None:
    """Above all no time: the lines of a resumed training are compared with those of an undisturbed one."""
    with Curves(tmp_path, 0) as curves:
        curves.add(9, {"loss": 0.5, "lr": 0.1})
        curves.histogram(9, "macs", [10, 20.0])
        curves.histogram(9, "none", [])
        curves.add(9, {})
    assert (tmp_path / HISTORY).read_text() == (
        '{"step":9,"values":{"loss":0.5,"lr":0.1}}\n{"step":9,"values":{},"drawn":{"macs":[10,20.0]}}\n'
    )
    assert read_history(tmp_path)[0] == Point(step=9, values={"loss": 0.5, "lr": 0.1})
    assert read_history(tmp_path / "nothing") == []


def test_points_can_be_read_at_once(tmp_path: Path) -> None:
    with Curves(tmp_path, 0) as curves:
        curves.add(0, {"loss": 1.0})
        assert read_history(tmp_path) == [Point(step=0, values={"loss": 1.0})]


def test_a_histogram_holds_every_value(tmp_path: Path) -> None:
    values = [4e9] * 7 + [1e9, 2.5e9, 2.6e9]
    with Curves(tmp_path, 0) as curves:
        curves.histogram(4, "macs", values)
        curves.histogram(5, "macs", [3e9, 3e9])
    (wide, single) = events_of(tmp_path).Histograms("macs")
    histogram = wide.histogram_value
    assert (wide.step, single.step) == (4, 5)
    assert (histogram.min, histogram.max, histogram.num, histogram.sum) == (1e9, 4e9, 10, sum(values))
    counts = dict(zip(histogram.bucket_limit, histogram.bucket, strict=True))
    assert sum(counts.values()) == 10
    assert sum(count for limit, count in counts.items() if 2.4e9 < limit < 2.8e9) == 2


def hparams(folder: Path) -> dict[str, Any]:
    """What TensorBoard's page of hyperparameters reads."""
    found: dict[str, Any] = {}
    for tag, metadata in events_of(folder).summary_metadata.items():
        if metadata.plugin_data.plugin_name == "hparams":
            data = HParamsPluginData.FromString(metadata.plugin_data.content)
            kind = data.WhichOneof("data")
            found[tag] = getattr(data, str(kind))
    return found


def test_settings_are_hparams_of_the_same_run(tmp_path: Path) -> None:
    options = {"lr": 0.1, "stages": [{"name": "depth"}], "data": {"name": "toy"}, "clip_norm": None}
    metrics = {"top1_percent/largest": 90.0, "test": 1.0}
    with Curves(tmp_path, 0) as curves:
        curves.add(6, {"top1_percent/largest": 90.0})
        curves.settings(options, metrics)
        curves.settings(options, metrics)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == set()
    found = hparams(tmp_path)
    start, experiment = found["_hparams_/session_start_info"], found["_hparams_/experiment"]
    read_back = {
        name: value.number_value if value.WhichOneof("kind") == "number_value" else value.string_value
        for name, value in start.hparams.items()
    }
    assert read_back == {
        "lr": 0.1,
        "stages": '[{"name": "depth"}]',
        "data.name": "toy",
        "clip_norm": "null",
    }
    assert {info.name.tag for info in experiment.metric_infos} == set(metrics)
    assert read(tmp_path) == {"top1_percent/largest": [6], "test": [6]}


def test_a_history_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / HISTORY).mkdir()
    with pytest.raises(RunError, match=HISTORY):
        Curves(tmp_path, 0)


def test_a_resumed_training_has_the_points_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnas.train.run.STEPS_PER_POINT", 2)
    toy.run("train", tmp_path / "a", tensorboard=tmp_path / "whole")
    whole = read(tmp_path / "whole")
    # two stages of 6 steps, each with a step of its own for its end: 0…5, 6 and 7…12, 13
    assert whole == {
        "loss": [1, 3, 5, 8, 10, 12],
        "lr": [1, 3, 5, 8, 10, 12],
        "images_per_s": [1, 3, 5, 8, 10, 12],
        "top1_percent/largest": [6, 13],
        "top1_percent/smallest": [6, 13],
        "stage": [6, 13],
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
    assert told(tmp_path / "resumed") == told(tmp_path / "whole")


def test_points_before_a_checkpoint_are_on_disk_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that after a kill -9, which closes no file, the curve has no gap."""
    monkeypatch.setattr("bnas.train.run.STEPS_PER_POINT", 1)
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
