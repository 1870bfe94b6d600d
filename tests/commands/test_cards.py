"""The cards of a finished run: every number is its source file's, digests are sha256sum's, the commands work."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import openvino
import pytest
import torch
import yaml

from bnas.__main__ import main
from bnas.commands.cards import write_cards
from bnas.commands.project import open_run
from bnas.data.idx import MEAN, STD
from bnas.errors import RunError
from bnas.files import read_json
from bnas.report.card import ModelCard

NAMES = ("reference", "A", "B", "C")
RUN = Path("runs/mini")


@pytest.fixture(scope="module")
def made(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the finished run and its cards."""
    folder = tmp_path_factory.mktemp("cards")
    shutil.copytree(finished / "runs", folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        paths = write_cards(open_run(RUN))
    assert set(paths) == {f"subnets/{name}/{file}" for name in NAMES for file in ("card.md", "card.json")}
    return folder


@pytest.fixture
def there(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as the current folder: for reading alone."""
    monkeypatch.chdir(made)
    return made


def plain(path: str) -> Any:
    return json.loads((RUN / path).read_text())


def card_of(name: str) -> ModelCard:
    return read_json(RUN / "subnets" / name / "card.json", ModelCard)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_is_that_of_its_source(there: Path, name: str) -> None:
    card, verified, artefacts = card_of(name), plain("verified.json"), plain("subnets/artefacts.json")
    assert [own.name for own in card.networks] == ["int8", "fp32"]
    for own in card.networks:
        measured, artefact = verified["networks"][name][own.name], artefacts[name][own.name]
        assert own.metric_percent == measured["metric_percent"]
        assert own.metric_low_percent < own.metric_percent < own.metric_high_percent
        for key in (
            "time_ms",
            "p10_ms",
            "p90_ms",
            "p99_ms",
            "ratio",
            "ratio_error_percent",
            "rounds",
            "calls",
            "converged",
        ):
            assert getattr(own, key) == measured["timing"][key]
        assert own.throughput_per_s == measured["throughput_per_s"]
        for key in (
            "path",
            "format",
            "precision",
            "digest",
            "size_bytes",
            "largest_difference",
            "agreement_percent",
        ):
            assert getattr(own, key) == artefact[key]
    report = plain("report.json")
    row = next(own for own in (report["reference"], *report["subnets"]) if own["name"] == name)
    for key in ("macs", "parameters", "speedup_vs_int8", "speedup_vs_fp32"):
        assert getattr(card, key) == row[key]
    assert (card.original_macs, card.original_parameters) == (
        report["reference"]["macs"],
        report["reference"]["parameters"],
    )
    assert card.others == ()
    assert card.data.mean == pytest.approx([MEAN])
    assert card.data.std == pytest.approx([STD])
    assert card.hardware == verified["hardware"]
    assert card.space == card_of("reference").space
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    assert card.options == config
    assert card.timing["threads"] == config["hw"]["threads"]
    assert card.timing["max_rounds"] == config["measure"]["max_rounds"]
    assert (card.data.train_images, card.data.val_images, card.data.test_images) == tuple(
        config["data"][f"{split}_images"] for split in ("train", "val", "test")
    )
    assert card.calibration.images == config["quantize"]["samples"] == card.calibration.quantizer["samples"]
    assert card.calibration.norm_images == (
        None if name == "reference" else config["train"]["recalibrate_images"]
    )
    if name == "reference":
        assert (card.config, card.diff, card.original) == (None, "", ())
    else:
        assert card.config == plain(f"subnets/{name}/subnet.json")["config"]["values"] == row["config"]
        assert card.original == card_of("reference").networks


def test_the_difference_to_the_original_is_what_show_prints(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "diff", "reference", "C"]) == 0
    assert card_of("C").diff == capsys.readouterr().out.rstrip("\n")


def test_digests_are_those_of_sha256sum(there: Path) -> None:
    card = card_of("A")
    paths = [own.path for own in card.files]
    whole = {
        "config.yaml",
        "graph.json",
        "space.json",
        "weights/pretrained.safetensors",
        "weights/supernet.safetensors",
    }
    own = {
        f"subnets/A/{file}"
        for file in ("subnet.json", "weights.safetensors", "int8.xml", "int8.bin", "fp32.xml", "fp32.bin")
    }
    assert set(paths) == whole | own
    told = subprocess.run(["sha256sum", *paths], cwd=RUN, capture_output=True, text=True, check=True).stdout
    assert told == "".join(f"{file.sha256}  {file.path}\n" for file in card.files)
    assert told in (RUN / "subnets/A/card.md").read_text()
    for file in card.files:
        assert file.size_bytes == (RUN / file.path).stat().st_size


def test_cards_of_one_run_are_the_same_bytes(there: Path) -> None:
    before = {path: path.read_bytes() for path in RUN.glob("subnets/*/card.*")}
    write_cards(open_run(RUN))
    assert {path: path.read_bytes() for path in RUN.glob("subnets/*/card.*")} == before


@pytest.fixture
def elsewhere(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy in another folder, which is the current one; it may be written to."""
    shutil.copytree(made / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_check_of_the_files_passes_and_finds_what_was_changed(elsewhere: Path) -> None:
    check = card_of("B").rebuilt_by[0].command
    fine = subprocess.run(check, shell=True, capture_output=True, text=True, check=True)
    assert fine.stdout.count(": OK") == len(card_of("B").files)
    with open(RUN / "subnets/B/int8.bin", "ab") as file:
        file.write(b"x")
    changed = subprocess.run(check, shell=True, capture_output=True, text=True, check=False)
    assert changed.returncode != 0
    assert "subnets/B/int8.bin: FAILED" in changed.stdout


def test_the_module_made_by_its_command_is_the_network_of_the_file(elsewhere: Path) -> None:
    python, option, code = shlex.split(card_of("C").rebuilt_by[1].command)
    assert (python, option) == ("python", "-c")
    for other in (
        *RUN.glob("*.json"),
        RUN / "weights/supernet.safetensors",
        RUN / "subnets/A/weights.safetensors",
    ):
        other.unlink()  # its folder alone is needed
    names: dict[str, Any] = {}
    exec(code, names)
    images = torch.randn(4, *card_of("C").shape, generator=torch.Generator().manual_seed(0))
    compiled = openvino.Core().compile_model(
        str(RUN / "subnets/C/fp32.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    for image in images.split(1):
        with torch.no_grad():
            wanted = names["network"](image)
        assert torch.allclose(torch.from_numpy(compiled([image.numpy()])[0]), wanted, atol=1e-4)


def test_the_files_made_again_by_their_commands_are_the_same(elsewhere: Path) -> None:
    before = {file.path: file.sha256 for name in NAMES for file in card_of(name).files}
    for line in card_of("B").rebuilt_by[2].command.split(" && "):
        assert shlex.split(line)[:3] == ["python", "-m", "bnas"]
        assert main(shlex.split(line)[3:]) == 0
    write_cards(open_run(RUN))
    assert {file.path: file.sha256 for name in NAMES for file in card_of(name).files} == before


def test_the_commands_that_made_it_are_those_of_the_ledger(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = [
        "build",
        "pretrain",
        "train",
        "measure",
        "search",
        "extract",
        "finetune",
        "quantize",
        "export",
        "verify",
        "report",
    ]
    card = card_of("A")
    assert sorted(own.does for own in card.made_by) == sorted(stages)
    ledger = [record["stage"].partition("@")[0] for record in plain("stages.json")]
    assert [own.does for own in card.made_by] == [stage for stage in ledger if stage != "report"] + ["report"]
    for own in card.made_by[:-1]:  # typed again they find all done
        capsys.readouterr()
        assert main(shlex.split(own.command)[3:]) == 0
        assert f"{own.does}: done before" in capsys.readouterr().out
    again = shlex.split(card.rebuilt_by[3].command)
    assert again == ["python", "-m", "bnas", "run", "conf=runs/mini/config.yaml", "name=mini-again"]


def test_the_licence_of_bnas_is_that_of_its_package(there: Path) -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    licence = next(line.partition(" = ")[2] for line in project.splitlines() if line.startswith("license = "))
    told = {own.of: own.licence for own in card_of("A").licences}
    assert told == {"bnas": licence.strip('"'), "weights of the original network": "yours", "data": "MIT"}


def test_a_missing_file_is_named(elsewhere: Path) -> None:
    (RUN / "verified.json").unlink()
    with pytest.raises(RunError, match=r"runs/mini/verified\.json does not exist"):
        write_cards(open_run(RUN))
