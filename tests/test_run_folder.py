from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bnas.errors import RunError
from bnas.run_folder import RunFolder, StageRecord, newest

CONFIG: dict[str, Any] = {
    "name": "x",
    "train": {"lr": 1e-05, "stages": [{"dims": {"depth": 0}}], "note": "1e-3", "big": float("inf")},
    "data": {"root": "~/ä b: c", "flag": True, "none": None, "yes": "yes", "date": "2024-01-01"},
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "runs" / "x")
    folder.write_config(CONFIG)
    return folder


def make(run: RunFolder, *names: str) -> None:
    for name in names:
        run.path(name).parent.mkdir(parents=True, exist_ok=True)
        run.path(name).write_text("")


def test_the_configuration_comes_back_equal(run: RunFolder) -> None:
    assert run.exists()
    assert RunFolder(run.root).config() == CONFIG
    assert not RunFolder(run.root / "other").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            b"a: [1\n",
            r"config\.yaml is damaged in line 2: .*; write it again with: python -m bnas COMMAND conf=",
        ),
        (b"", r"config\.yaml is damaged: it holds no options"),
        (b"\xff\xfe", r"config\.yaml is damaged"),
        (
            b"x: !!python/object/apply:os.getpid []\n",
            r"config\.yaml is damaged in line 1: could not determine",
        ),
    ],
)
def test_a_damaged_configuration_says_how_to_mend_it(run: RunFolder, content: bytes, text: str) -> None:
    run.path("config.yaml").write_bytes(content)
    with pytest.raises(RunError, match=text) as refusal:
        run.config()
    assert "\n" not in str(refusal.value)


def test_a_missing_configuration(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"config\.yaml does not exist; write it again with: .* name=x$"):
        RunFolder(tmp_path / "x").config()


def test_a_stage_is_done_while_its_files_are_there(run: RunFolder) -> None:
    assert run.done("train") is None
    make(run, "weights/a.safetensors", "b.json")
    record = run.finish("train", "abc", ("weights/a.safetensors", "b.json"), "trained: 5 stages", 1.5)
    assert record == StageRecord(
        stage="train",
        inputs="abc",
        made=("weights/a.safetensors", "b.json"),
        line="trained: 5 stages",
        seconds=1.5,
    )
    again = RunFolder(run.root)
    assert again.done("train") == again.check("train", "abc") == again.require("train") == record
    assert again.check("train", "abd") is None
    run.path("b.json").unlink()
    assert again.done("train") is None
    assert again.check("train", "abc") is None
    with pytest.raises(RunError, match=r"x/b\.json is gone; first: python -m bnas train$"):
        again.require("train")


def test_the_ledger_keeps_one_record_of_each_stage_in_order(run: RunFolder) -> None:
    run.finish("build", "1", (), "built", 1)
    run.finish("train", "2", (), "trained", 1)
    run.finish("build", "3", (), "built again", 1)
    assert [(record.stage, record.inputs) for record in run.records()] == [("train", "2"), ("build", "3")]
    run.forget("train")
    run.forget("search")
    assert [record.stage for record in run.records()] == ["build"]
    assert run.done("train") is None


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        ("train", "x has not been trained yet; first: python -m bnas train"),
        ("extract", "x has not had its subnets extracted yet; first: python -m bnas extract"),
        ("tune", "x has not done tune yet; first: python -m bnas tune"),
    ],
)
def test_a_stage_that_is_needed_names_its_command(run: RunFolder, stage: str, text: str) -> None:
    with pytest.raises(RunError, match=rf"{text}$"):
        run.require(stage)


def test_a_damaged_ledger_says_how_to_mend_it(run: RunFolder) -> None:
    run.path("stages.json").write_text('[{"stage": "train"')
    with pytest.raises(RunError, match=r"stages\.json is damaged: .*; delete it, then the same command"):
        run.done("train")


def test_the_newest_run_is_the_one_last_used(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with pytest.raises(
        RunError, match=r"no run yet in .*runs/; start one with: python -m bnas run conf=quick"
    ):
        newest(runs)
    first, second = RunFolder(runs / "a"), RunFolder(runs / "b")
    for age, folder in ((200, first), (100, second)):
        folder.write_config(CONFIG)
        config = folder.path("config.yaml")
        os.utime(config, (config.stat().st_mtime - age,) * 2)
    (runs / "c").mkdir()
    assert newest(runs) == second
    with first.locked():
        pass
    assert newest(runs) == first


def holder(run: RunFolder) -> subprocess.Popen[str]:
    code = f"""
from pathlib import Path
from bnas.run_folder import RunFolder
with RunFolder(Path({str(run.root)!r})).locked():
    print("locked", flush=True)
    input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_one_process_at_a_time_and_a_killed_one_lets_go(run: RunFolder) -> None:
    with run.locked():
        pass
    with holder(run) as process:
        with pytest.raises(RunError, match=rf"x is in use by process {process.pid}; wait"), run.locked():
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with run.locked():
            assert run.path(".lock").read_text() == str(os.getpid())


def test_stages_of_one_command_may_lock_again(run: RunFolder) -> None:
    with run.locked():
        with RunFolder(run.root).locked():
            pass
        with pytest.raises(KeyError), RunFolder(run.root).locked():
            raise KeyError
        code = f"""
from pathlib import Path
from bnas.run_folder import RunFolder
with RunFolder(Path({str(run.root)!r})).locked(): pass
"""
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert f"in use by process {os.getpid()}" in other.stderr  # the inner ones did not let go
    with holder(run) as process:
        process.communicate("\n")
    assert process.returncode == 0


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    folder = RunFolder(tmp_path / "file" / "x")
    refused = r"cannot write .*file/x/.*: (Not a directory|File exists)$"
    with pytest.raises(RunError, match=refused):
        folder.write_config(CONFIG)
    with pytest.raises(RunError, match=refused), folder.locked():
        pass

    def full(descriptor: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*stages\.json: Read-only file system$"):
        RunFolder(tmp_path / "x").finish("train", "", (), "", 0)
