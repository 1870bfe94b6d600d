from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mini import MINI, bnas

from bnas.__main__ import main


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `python -m bnas run conf=quickstart` was run, as the README says, by nobody's hand."""
    folder = tmp_path_factory.mktemp("quickstart")
    done = bnas("run", "conf=quickstart", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    (folder / "stderr.txt").write_text(done.stderr)
    return folder


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `mini`, trained and measured; for reading alone: `run` gives a copy."""
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *MINI]) == 0
        assert main(["measure"]) == 0
    return folder


@pytest.fixture(scope="session")
def finished(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `mini`, done to its report; for reading alone."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(measured / "runs", folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["run"]) == 0
    return folder


@pytest.fixture
def run(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a copy of the run `mini`, trained and measured; it lies in the current one."""
    shutil.copytree(measured / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "mini"
