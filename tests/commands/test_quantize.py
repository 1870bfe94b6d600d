"""`bnas quantize` with the quantizers that work on torch modules; that of the OpenVINO graph is in every other run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from mini import MINI

from bnas.__main__ import main
from bnas.commands import quantize as command
from bnas.commands.extract import SubnetFile
from bnas.commands.invocation import Invocation
from bnas.commands.project import Project, open_project
from bnas.errors import ConfigError, RunError
from bnas.export import Artefact, check_digest
from bnas.export.openvino_runtime import read_network
from bnas.files import read_json, write_json
from bnas.report import Finetuned
from bnas.train import loop

QAT = ("quantize=nncf_qat", "quantize.samples=20", "quantize.epochs=0.5", "quantize.batch_size=50")


def opened(*options: str) -> Project:
    """A run `mini` that has the original network alone, untrained, as if `extract` had been done."""
    own = tuple(option for option in MINI if not option.startswith(("conf=", "quantize.")))
    project = open_project(Invocation(command="quantize", conf="quickstart", overrides=(*own, *options)))
    project.folder.write_config(project.plain)
    model, _ = project.fresh_model()
    project.write_weights(model, "subnets/reference/weights.safetensors")
    file = SubnetFile(name="reference", config=None, model=project.fresh_config)
    write_json(project.folder.path("subnets", "reference", "subnet.json"), file)
    project.folder.finish("extract", "", ("subnets/reference/subnet.json",), "made up", 0.0)
    return project


def int8_weights(project: Project) -> int:
    """How many weights of the written network are INT8."""
    artefact = read_json(project.folder.path("subnets", "int8.json"), dict[str, Artefact])["reference"]
    check_digest(command.absolute(project, artefact))
    assert artefact.precision == "int8"
    assert artefact.path == "subnets/reference/int8.xml"
    operations = read_network(project.folder.path(artefact.path)).get_ops()
    constants = [op for op in operations if op.get_type_name() == "Constant"]
    return sum(op.get_element_type().get_type_name() == "i8" for op in constants)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", ["nncf_ptq_torch", "nncf_ptq_fx"])
def test_every_quantizer_writes_what_the_run_goes_on_with(kind: str) -> None:
    project = opened(f"quantize={kind}", "quantize.samples=8")
    made = command.quantize(project)
    assert made.paths == ("subnets/reference/int8.xml", "subnets/reference/int8.bin", "subnets/int8.json")
    assert int8_weights(project) > 5


def test_training_with_quantizers_is_told_and_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    project = opened(*QAT, "quantize.checkpoint_seconds=0")
    step, steps = loop.train_step, []

    def halting(*args: Any) -> Any:
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(loop, "train_step", halting)
    with pytest.raises(KeyboardInterrupt):
        command.quantize(project)
    assert not project.folder.path("subnets", "int8.json").exists()
    made = command.quantize(project)
    assert len(steps) == 3 + 4 - 2  # 400 images, half an epoch of 50 at a time: two of four steps were kept
    assert "subnets/reference/qat.json" in made.paths
    gain = read_json(project.folder.path("subnets", "reference", "qat.json"), Finetuned)
    assert gain.images == 200
    assert f"{gain.before:.2f} → {gain.after:.2f}" in made.line
    assert gain.kept == (gain.after > gain.before)
    assert int8_weights(project) > 5


def test_options_are_told_before_anything_is_done() -> None:
    project = opened(*QAT, "quantize.schedule=cosines")
    with pytest.raises(ConfigError, match=r"quantize\.schedule"):
        command.quantize(project)
    assert not project.folder.path("checkpoints").exists()


def test_many_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from bnas.train.distributed import World

    monkeypatch.setattr(command, "world", lambda: World(rank=0, size=2, device=torch.device("cpu")))
    with pytest.raises(ConfigError, match="without torchrun: python -m bnas quantize"):
        command.quantize(opened(*QAT))


def test_what_training_gained_is_not_told_of_another_quantizer() -> None:
    project = opened("quantize=nncf_ptq", "quantize.samples=4")
    path = project.folder.path("subnets", "reference", "qat.json")
    write_json(path, Finetuned(metric="top1_percent", before=1.0, after=2.0, kept=True, images=1))
    command.quantize(project)
    assert not path.exists()


def test_without_extracted_networks_the_command_is_named() -> None:
    project = opened("quantize=nncf_ptq")
    project.folder.forget("extract")
    with pytest.raises(RunError, match="extract"):
        command.quantize(project)


def test_another_calibration_is_no_reason_to_measure_and_search_again(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished / "runs", "runs")
    before = Path("runs/mini/subnets/A/int8.bin").read_bytes()
    assert main(["quantize", *QAT]) == 2
    assert (
        "'quantize' was done with other options (quantize.kind: nncf_ptq → nncf_qat"
        in capsys.readouterr().err
    )
    assert main(["quantize", *QAT, "--force"]) == 0
    assert Path("runs/mini/subnets/A/int8.bin").read_bytes() != before
    assert Path("runs/mini/subnets/A/qat.json").exists()
    assert main(["export", "--force"]) == 0
    assert main(["quantize", "quantize=nncf_ptq", "quantize.preset=performance", "--force"]) == 2
    assert (
        "'extract' was done with other options (quantize.kind: nncf_qat → nncf_ptq" in capsys.readouterr().err
    )
    back = ("quantize=nncf_ptq", "quantize.samples=20", "quantize.bias_correction=none")
    assert main(["quantize", *back, "--force"]) == 0  # nothing of the other kind is left
    assert Path("runs/mini/subnets/A/int8.bin").read_bytes() == before
