from __future__ import annotations

from pathlib import Path

import pytest
from mini import bnas


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `python -m bnas run conf=quickstart` was run, as the README says, by nobody's hand."""
    folder = tmp_path_factory.mktemp("quickstart")
    done = bnas("run", "conf=quickstart", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    (folder / "stderr.txt").write_text(done.stderr)
    return folder
