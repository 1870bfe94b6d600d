from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from answering import CLASSES, Answering, numbered

from bnas.errors import DataError, MissingPackageError, RunError
from bnas.load import SCENARIOS, LoadTest, Samples, read_answers, read_result, run_test

SHORT = LoadTest(scenario="SingleStream", seconds=0.02, queries=5, queries_per_s=2000)


@pytest.mark.parametrize(
    ("scenario", "batch"), [("SingleStream", 1), ("MultiStream", 8), ("Server", 1), ("Offline", 4)]
)
def test_accuracy_mode_asks_for_every_image(tmp_path: Path, scenario: str, batch: int) -> None:
    """17 images are no multiple of a query or of a batch, and more than are in memory at once."""
    queue = Answering(batch)
    test = replace(SHORT, scenario=scenario, accuracy=True, samples=10)
    labels = run_test(queue, numbered(17), test, tmp_path / "logs")
    assert labels == {index: index % CLASSES for index in range(17)}
    assert read_answers(tmp_path / "logs") == labels
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == [
        "mlperf_log_accuracy.json",
        "mlperf_log_detail.txt",
        "mlperf_log_summary.txt",
    ]
    assert max(queue.sizes) == batch


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_settings_reach_loadgen(tmp_path: Path, scenario: str) -> None:
    test = replace(SHORT, scenario=scenario, samples=12, samples_per_query=3, server_latency_ms=7.5)
    run_test(Answering(3), numbered(20), test, tmp_path / "logs")
    marked = (line for line in (tmp_path / "logs/mlperf_log_detail.txt").read_text().splitlines())
    said = {
        entry["key"]: entry["value"]
        for entry in (json.loads(line.removeprefix(":::MLLOG ")) for line in marked)
    }
    assert said["effective_scenario"] == scenario
    assert said["effective_min_duration_ms"] == 20
    assert said["effective_performance_sample_count"] == 12
    assert said["qsl_reported_total_count"] == 20
    assert said["effective_target_latency_ns"] == (7_500_000 if scenario == "Server" else 0)
    samples = {"MultiStream": 3, "Offline": max(5, int(1.1 * 0.02 * 2000))}
    assert said["effective_samples_per_query"] == samples.get(scenario, 1)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_error_of_the_network_comes_out(tmp_path: Path, scenario: str) -> None:
    queue = Answering(fails_at=2)
    with pytest.raises(RuntimeError, match="no such network"):
        run_test(queue, numbered(8), replace(SHORT, scenario=scenario), tmp_path / "logs")
    assert list(tmp_path.iterdir()) == []
    run_test(
        Answering(), numbered(8), replace(SHORT, scenario=scenario), tmp_path / "logs"
    )  # LoadGen works on


def test_an_error_of_the_images_comes_out(tmp_path: Path) -> None:
    def load(indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        raise DataError("image.png is damaged")

    with pytest.raises(DataError, match="is damaged"):
        run_test(Answering(), Samples(count=4, load=load), SHORT, tmp_path / "logs")


def test_an_error_of_what_the_network_gives_comes_out(tmp_path: Path) -> None:
    class Scalars(Answering):
        def start(self, images, done):  # type: ignore[no-untyped-def]
            super().start(images, lambda outputs: done(None))

    with pytest.raises(AttributeError, match="ndim"):
        run_test(Scalars(), numbered(4), SHORT, tmp_path / "logs")


def test_earlier_logs_stay_when_a_test_fails_and_go_when_it_does_not(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "old").touch()
    with pytest.raises(RuntimeError):
        run_test(Answering(fails_at=0), numbered(8), SHORT, logs)
    assert [path.name for path in logs.iterdir()] == ["old"]
    run_test(Answering(), numbered(8), SHORT, logs)
    assert not (logs / "old").exists()


def test_ctrl_c_is_raised_after_the_test(tmp_path: Path) -> None:
    class Interrupted(Answering):
        def start(self, images, done):  # type: ignore[no-untyped-def]
            if len(self.sizes) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            super().start(images, done)

    queue = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        run_test(queue, numbered(8), replace(SHORT, queries=1000), tmp_path / "logs")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(queue.sizes) < 10
    assert list(tmp_path.iterdir()) == []


def test_tests_of_several_threads_wait_for_each_other(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=run_test, args=(Answering(), numbered(8), SHORT, tmp_path / str(number)))
        for number in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(read_result(tmp_path / str(number)).queries >= 5 for number in range(3))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot write"):
        run_test(Answering(), numbered(4), SHORT, tmp_path / "file" / "logs")


def test_loadgen_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlperf_loadgen", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'bnas\[load\]'"):
        run_test(Answering(), numbered(4), SHORT, tmp_path / "logs")
