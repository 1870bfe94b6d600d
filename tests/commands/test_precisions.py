"""A run that searches architecture and precisions of blocks together, from the campaign to the exported files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from bnas.__main__ import main
from bnas.commands.decision import Decision
from bnas.commands.extract import SubnetFile, load_subnet
from bnas.commands.project import open_run
from bnas.export.openvino_runtime import read_network
from bnas.files import read_json, read_jsonl
from bnas.measure import Measurement, prepare
from bnas.report import Report
from bnas.space import PRECISIONS, SubnetConfig, architecture, precisions_of
from bnas.train import evaluate

ASKED = "quantize.precisions=[int8_channel,fp32]"


@pytest.fixture(scope="module")
def searched(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that chose precisions; its subnets are extracted and quantized."""
    home = tmp_path_factory.mktemp("precisions")
    shutil.copytree(measured / "runs", home / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert main(["search", ASKED, "search={evaluations: 6, population: 4}", "measure.samples=6"]) == 0
        for command in ("extract", "quantize"):
            assert main([command]) == 0
    return home / "runs" / "mini"


def test_blocks_are_measured_judged_and_exported_in_the_precisions_that_were_chosen(searched: Path) -> None:
    project = open_run(searched)
    decision = read_json(searched / "search/cpu/front.json", Decision)
    chosen = [choice for choice in project.space.choices if choice.dim == "precision"]
    assert len(chosen) > 3
    assert project.space.size == project.elastic_space.size * 2 ** len(chosen)

    lines = read_jsonl(searched / "latency/cpu/measurements.jsonl", Measurement)
    sets = {line.space: [own for own in lines if own.space == line.space] for line in lines}
    assert list(sets) == [project.elastic_space.digest, project.space.digest]
    assert len(sets[project.space.digest]) == 6

    for name, config in decision.chosen.items():
        assert read_json(searched / "subnets" / name / "subnet.json", SubnetFile).config == config
        project.elastic_space.validate(architecture(config))
        asked = precisions_of(project.graph, project.space, config)
        layers = [
            path
            for path, module in load_subnet(project, name).named_modules()
            if isinstance(module, (nn.Conv2d, nn.Linear))
        ]
        in_blocks = {
            path: ".".join(path.split(".")[:2]) if path.startswith("layer") else "" for path in layers
        }
        expected = [asked[part] != "fp32" for part in in_blocks.values()]
        assert sorted(stored_as_integers(searched / "subnets" / name / "int8.xml")) == sorted(expected)
        member = next(own for own in decision.members if own.config == config)
        network = prepare(searched / "subnets" / name / "int8.xml", project.config.hw)
        assert evaluate(network.predict, project.data.val) == member.metric_int8_percent
        searched_as = next(own for own in decision.front.members if own.config == config)
        assert searched_as.values["top1_percent"] == member.metric_int8_percent
    assert load_subnet(project, "A")(project.example).shape == (1, 10)


def stored_as_integers(path: Path) -> list[bool]:
    """Of each convolution and product in the file: are its weights stored as integers."""
    return [
        integers_behind(node)
        for node in read_network(path).get_ordered_ops()
        if node.get_type_name() in ("Convolution", "MatMul")
    ]


def integers_behind(node: Any) -> bool:
    source = node.input_value(1).get_node()
    while source.get_type_name() != "Constant":
        source = source.input_value(0).get_node()
    return source.get_element_type().to_string() in ("i8", "u8")


def test_the_same_network_is_evaluated_once(searched: Path) -> None:
    """Of a skipped block the precision says nothing: it is always the same."""
    project, left_out = open_run(searched), 0
    lines = (searched / "search/cpu/evaluations.jsonl").read_text().splitlines()[1:]
    assert len(lines) == 6
    for line in lines:
        config = SubnetConfig(json.loads(line)["config"]["values"])
        there = precisions_of(project.graph, project.space, config)
        for choice in project.space.choices:
            if choice.dim == "precision" and choice.targets[0] not in there:
                assert config[choice.name] == PRECISIONS.index("fp32")
                left_out += 1
    assert left_out > 0


def test_the_report_shows_the_original_network_in_the_precision_it_is_compared_in(
    searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(searched.parent.parent)
    for command in ("export", "verify", "report"):
        assert main([command]) == 0
    report, space = read_json(searched / "report.json", Report), open_run(searched).space
    chosen = {choice.name for choice in space.choices if choice.dim == "precision"}
    assert {report.reference.config[name] for name in chosen} == {PRECISIONS.index("int8_channel")}
    assert {name: value for name, value in report.reference.config.items() if name not in chosen} == {
        choice.name: choice.values[-1] for choice in space.choices if choice.name not in chosen
    }


def test_one_precision_is_no_choice(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["search", "quantize.precisions=[fp32]"]) == 2
    text = capsys.readouterr().err.strip()
    assert text == "bnas: error: quantize.precisions: expected two or more to choose from, or none, got fp32"


def test_a_format_that_has_no_mixed_precisions_is_refused_before_anything_is_done(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    asked = ["run", ASKED, "export.also=[{kind: onnx}]"]
    assert main(asked) == 2
    text = capsys.readouterr().err.strip()
    assert text == (
        "bnas: error: export: networks whose blocks differ in precision (quantize.precisions) are written as OpenVINO "
        "IR only; set int8=false for onnx"
    )
