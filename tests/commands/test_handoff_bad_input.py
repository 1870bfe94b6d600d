"""Bad input between the subnets and their files: one clear line, exit code 2, nothing half-written, nothing lost."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bnas.__main__ import main
from bnas.export import convert
from bnas.export.openvino_runtime import openvino
from bnas.models import TinyResNet

Refused = Callable[..., str]
SUBNETS = Path("runs/mini/subnets")


@pytest.fixture(autouse=True)
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder has a copy of the run `mini`, done to its report."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)


def files() -> dict[str, bytes]:
    """Everything in the folders of the subnets, temporary files included."""
    return {str(path): path.read_bytes() for path in sorted(SUBNETS.rglob("*")) if path.is_file()}


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command line that must fail with one line, which is returned; no file of the subnets may change."""

    def run(*arguments: str) -> str:
        before = files()
        capsys.readouterr()
        assert main(list(arguments)) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bnas: error: ")]
        assert len(errors) == 1, errors
        after = files()
        assert after.keys() == before.keys()  # nothing half-written beside them
        assert [path for path in before if after[path] != before[path]] == []
        return errors[0].removeprefix("bnas: error: ")

    return run


def cut(path: Path, lost: int) -> None:
    path.write_bytes(path.read_bytes()[:-lost])


def enter(name: str, kind: str) -> None:
    """Have the run's list say of a file that was changed that it was written so."""
    path = SUBNETS / name / f"{kind}.xml"
    told = json.loads((SUBNETS / "artefacts.json").read_text())
    whole = path.read_bytes() + path.with_suffix(".bin").read_bytes()
    told[name][kind] |= {"digest": hashlib.sha256(whole).hexdigest(), "size_bytes": len(whole)}
    (SUBNETS / "artefacts.json").write_text(json.dumps(told))


@pytest.mark.parametrize("file", ["int8.bin", "fp32.bin", "int8.xml"])
def test_a_truncated_file_is_not_measured(refused: Refused, file: str) -> None:
    cut(SUBNETS / "A" / file, 100)
    text = refused("verify", "--force")
    assert (
        f"runs/mini/subnets/A/{file.partition('.')[0]}.xml is damaged: it is not the network that was exported"
        in text
    )
    assert f"run `bnas {'quantize' if 'int8' in file else 'export'} --force`" in text


def test_a_file_of_a_network_for_other_images(refused: Refused) -> None:
    net = TinyResNet(10, 3, widths=(8, 16), depths=(2, 2)).eval()
    for file in ("fp32.xml", "fp32.bin"):
        (SUBNETS / "A" / file).unlink()
    openvino().save_model(
        convert(net, torch.zeros(1, 3, 16, 16)), SUBNETS / "A/fp32.xml", compress_to_fp16=False
    )
    enter("A", "fp32")
    text = refused("verify", "--force")
    assert "the network cannot be run on images" in text
    assert "[1,3,16,16]" in text


def test_a_truncated_file_is_not_passed_on_by_export_and_quantize_mends_it(refused: Refused) -> None:
    before = files()
    cut(SUBNETS / "B" / "int8.bin", 100)
    assert "runs/mini/subnets/B/int8.xml is damaged" in refused("export", "--force")
    assert main(["quantize", "--force"]) == 0
    assert main(["export"]) == 0
    assert files() == before


@pytest.mark.parametrize("file", ["int8.bin", "fp32.xml"])
def test_a_file_that_is_gone_is_named_with_the_command_that_makes_it(refused: Refused, file: str) -> None:
    (SUBNETS / "C" / file).unlink()
    text = refused("verify", "--force")
    assert f"runs/mini/subnets/C/{file} is " in text
    assert f"bnas {'quantize' if 'int8' in file else 'export'}" in text


def test_truncated_weights_are_not_quantized(refused: Refused) -> None:
    cut(SUBNETS / "A" / "weights.safetensors", 9)
    text = refused("quantize", "--force")
    assert "runs/mini/subnets/A/weights.safetensors cannot be read" in text
    assert "python -m bnas extract --force" in text


def test_an_artefact_of_a_version_that_is_not_read(refused: Refused) -> None:
    xml = SUBNETS / "A" / "fp32.xml"
    text = xml.read_text()
    assert 'version="11"' in text.splitlines()[1]
    xml.write_text(text.replace('version="11"', 'version="99"', 1))
    enter("A", "fp32")
    text = refused("verify", "--force")
    assert "runs/mini/subnets/A/fp32.xml is OpenVINO IR of version 99" in text


@pytest.mark.parametrize("file", ["int8.json", "artefacts.json"])
def test_a_list_of_artefacts_that_a_later_bnas_wrote(refused: Refused, file: str) -> None:
    told = json.loads((SUBNETS / file).read_text())
    artefact = told["A"] if file == "int8.json" else told["A"]["int8"]
    artefact["opset"] = 99
    (SUBNETS / file).write_text(json.dumps(told))
    text = refused("export" if file == "int8.json" else "verify", "--force")
    assert f"runs/mini/subnets/{file} is damaged: " in text
    assert "opset: no such option" in text


@pytest.mark.parametrize(
    ("command", "file"), [("quantize", "int8.bin"), ("export", "fp32.xml"), ("export", "artefacts.json")]
)
def test_no_space_left(refused: Refused, monkeypatch: pytest.MonkeyPatch, command: str, file: str) -> None:
    """The disk is full when a file is put in its place; with space again the same command goes on."""
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).name == file:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        text = refused(command, "--force")
    assert text.startswith("cannot write runs/mini/subnets/")
    assert f"{file}: No space left on device; free some space, then run the same command again" in text
    if file == "artefacts.json":
        before = files()
        assert main([command]) == 0
        assert files() == before


@pytest.mark.parametrize("file", ["verified.json", "report.json"])
def test_no_space_left_for_a_result(refused: Refused, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    before, replace = Path("runs/mini", file).read_bytes(), os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target) == Path("runs/mini", file):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    text = refused({"verified.json": "verify", "report.json": "report"}[file], "--force")
    assert text.startswith(f"cannot write runs/mini/{file}: No space left on device")
    assert Path("runs/mini", file).read_bytes() == before


def test_weights_that_are_no_numbers_are_not_started_from(refused: Refused) -> None:
    weights = TinyResNet(10, widths=(8, 16), depths=(2, 2)).state_dict()
    weights["layer1.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(weights, "nan.pth")
    text = refused("pretrain", "model.weights=nan.pth", "name=other", "conf=runs/mini/config.yaml")
    assert "nan.pth holds values that are not numbers (NaN), in layer1.0.conv1.weight" in text


def test_a_subnet_whose_weights_are_no_numbers(refused: Refused) -> None:
    path = SUBNETS / "A" / "weights.safetensors"
    weights = load_file(path)
    weights["conv1.weight"][0, 0, 0, 0] = float("nan")
    save_file(weights, path)
    assert "conv1.weight holds NaN (1 of " in refused("quantize", "--force")


@pytest.mark.parametrize("file", ["verified.json", "subnets/A/subnet.json"])
def test_a_damaged_result_is_not_reported(refused: Refused, file: str) -> None:
    cut(Path("runs/mini") / file, 20)
    assert f"runs/mini/{file} is damaged" in refused("report", "--force")
