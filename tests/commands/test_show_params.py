"""`bnas show params FILE`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bnas.__main__ import main
from bnas.commands.show_params import show_params
from bnas.errors import RunError

DATA = {
    "options": {"scheme": "tf", "equalize": {"scale": True}, "precisions": []},
    "calibration_images": 24,
    "equalization": {
        "scaled": 8,
        "differences": {"absorb": 0.25},
        "skipped": {"scale": {"conv1": "breaks at 1 (ReLU6)"}},
    },
    "versions": {"torch": "2.9"},
    "sha256": {
        ".encodings": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",  # of "foo"
        ".onnx": "0" * 64,
        ".pth": "1" * 64,
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "A_params.json").write_text(json.dumps(DATA))
    (tmp_path / "A.encodings").write_text("foo")
    (tmp_path / "A.onnx").write_text("other")
    return tmp_path


@pytest.mark.parametrize(
    "name", ["A_params.json", "A.encodings", "A.encodings.yaml", "A_torch.encodings", "A.pth"]
)
def test_all_is_told_whichever_file_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["show", "params", str(folder / name)]) == 0
    rows = [
        [cell.strip() for cell in line.strip("│┃ ").split("│")]
        for line in capsys.readouterr().out.splitlines()
    ]
    for row in (
        ["options.scheme", "tf"], ["options.equalize.scale", "true"], ["options.precisions", "[]"],
        ["equalization.scaled", "8"], ["equalization.differences.absorb", "0.25"],
        ["equalization.skipped.scale.conv1", "breaks at 1 (ReLU6)"],
        ["calibration_images", "24"], ["versions.torch", "2.9"], ["file .encodings", "2c26b46b68ffc68f…, as written"],
        ["file .onnx", f"{'0' * 16}…, changed since"], ["file .pth", f"{'1' * 16}…, missing"],
    ):  # fmt: skip
        assert row in rows


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "No such file"), ("{", "is damaged"), ("[]", "holds no parameters"), ('{"sha256": {}}', "holds no parameters")],
)  # fmt: skip
def test_what_is_no_such_file(tmp_path: Path, content: str | None, text: str) -> None:
    if content is not None:
        (tmp_path / "A_params.json").write_text(content)
    with pytest.raises(RunError, match=text):
        show_params([str(tmp_path / "A_params.json")])


def test_one_file_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "params"]) == 2
    assert "show params: which file?" in capsys.readouterr().err
