"""Installed from a wheel, in an empty folder, every shipped conf is there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_wheel_carries_confs_spaces_and_images(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    empty = tmp_path / "empty"
    empty.mkdir()
    code = "import bnas, sys; print(bnas.__file__); from bnas.__main__ import main; sys.exit(main(['build', 'conf=resnet50']))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(str(tmp_path / "site"))
    assert (empty / "runs/resnet50/space.json").read_bytes() == (
        ROOT / "search_spaces/resnet50.json"
    ).read_bytes()
    assert (tmp_path / "site/bnas/search_spaces/quickstart.json").is_file()
    assert (tmp_path / "site/bnas/data/fashion_mnist/LICENCE").is_file()
