"""The README's first command, for real, and everything that is promised of what it leaves."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from mini import bnas
from nbclient import NotebookClient
from torch import nn

from bnas import extract_subnet
from bnas.data import DataConfig, load_data
from bnas.errors import RunError
from bnas.files import read_json
from bnas.graph import ChannelGraph
from bnas.report import Report
from bnas.space import SearchSpace, SubnetConfig, costs
from bnas.train import evaluate

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
KEYS = {
    "name", "metric_fp32_percent", "metric_int8_percent", "latency_ms", "latency_fp32_ms", "throughput_per_s",
    "macs", "parameters", "size_bytes", "speedup_vs_fp32", "speedup_vs_int8", "predicted_latency_ms",
}  # fmt: skip


@pytest.fixture(scope="module")
def report(quickstart: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((quickstart / "runs/quickstart/report.json").read_text())
    return loaded


def test_every_stage_ends_with_one_line_of_what_it_made(quickstart: Path) -> None:
    lines = (quickstart / "stdout.txt").read_text().splitlines()
    for stage in (
        "pretrain",
        "build",
        "train",
        "measure",
        "search",
        "extract",
        "quantize",
        "export",
        "verify",
        "report",
    ):
        last = [line for line in lines if line.startswith(f"{stage}: ")][-1]
        assert "runs/quickstart/" in last
        path = Path(last.rpartition("→ ")[2].split("  ")[0])
        assert (quickstart / path).exists()
    assert "left" in (quickstart / "stderr.txt").read_text()  # progress with the time left
    curves = list((quickstart / "runs/quickstart/tensorboard").rglob("events.out.tfevents.*"))
    assert {path.parent.name for path in curves} == {"pretrain", "train", "cpu"}  # cpu: latency


def test_report_json(report: dict[str, Any], quickstart: Path) -> None:
    assert {"reference", "subnets", "hardware", "protocol"} <= set(report)
    assert [subnet["name"] for subnet in report["subnets"]] == ["A", "B", "C"]
    reference = report["reference"]
    for subnet in (reference, *report["subnets"]):
        assert set(subnet) >= KEYS
        assert subnet["speedup_vs_int8"] == pytest.approx(reference["latency_ms"] / subnet["latency_ms"])
        assert subnet["speedup_vs_fp32"] == pytest.approx(reference["latency_fp32_ms"] / subnet["latency_ms"])
        folder = quickstart / "runs/quickstart/subnets" / subnet["name"]
        files = [folder / "int8.xml", folder / "int8.bin"]
        assert subnet["size_bytes"] == sum(path.stat().st_size for path in files)
        assert 0 < subnet["latency_p10_ms"] <= subnet["latency_ms"] <= subnet["latency_p90_ms"]
    smallest = min(report["subnets"], key=lambda subnet: subnet["latency_ms"])
    assert smallest["name"] == "C"
    assert reference["metric_fp32_percent"] > 80  # it learned; chance is 10


def test_numbers_are_those_of_the_networks(report: dict[str, Any], quickstart: Path) -> None:
    """Accuracy, MACs and parameters of B, recounted from its plain module."""
    run = quickstart / "runs/quickstart"
    row = next(subnet for subnet in report["subnets"] if subnet["name"] == "B")
    subnet = extract_subnet(run, "B")
    assert type(subnet) is nn.Module or not type(subnet).__module__.startswith("bnas.supernet")
    assert sum(parameter.numel() for parameter in subnet.parameters()) == row["parameters"]
    top1_percent = evaluate(subnet, load_data(DataConfig()).test)
    assert abs(top1_percent - row["metric_fp32_percent"]) <= 0.1  # two images of 2000, by rounding
    graph, space = read_json(run / "graph.json", ChannelGraph), read_json(run / "space.json", SearchSpace)
    assert costs(graph, space, SubnetConfig(row["config"])).macs == row["macs"]


def test_extract_subnet_by_config(quickstart: Path) -> None:
    run = quickstart / "runs/quickstart"
    space = read_json(run / "space.json", SearchSpace)
    with torch.no_grad():
        assert extract_subnet(run, space.smallest)(torch.zeros(1, 1, 32, 32)).shape == (1, 10)
    with pytest.raises(RunError, match="has no subnet 'Z'; known: A, B, C, reference"):
        extract_subnet(run, "Z")


def test_done_again_it_does_nothing(quickstart: Path) -> None:
    before = (quickstart / "runs/quickstart/report.json").read_bytes()
    again = bnas("run", "conf=quickstart", cwd=quickstart)
    assert again.returncode == 0, again.stderr
    assert all("done before" in line for line in again.stdout.splitlines())
    assert (quickstart / "runs/quickstart/report.json").read_bytes() == before


def test_search_goes_on_with_the_newest_run(quickstart: Path) -> None:
    """As typed after training: no conf, the run that is there."""
    again = bnas("search", "--hw", "cpu", cwd=quickstart)
    assert again.returncode in (0, 2)
    assert "quickstart" in again.stdout + again.stderr


@pytest.mark.parametrize("what", ["", "space", "latency", "report", "A", "reference"])
def test_show(quickstart: Path, what: str) -> None:
    shown = bnas("show", *what.split(), cwd=quickstart)
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) >= 1


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(quickstart: Path, notebook: Path) -> None:
    """Every cell runs on the quickstart's files."""
    assert sys.executable
    content = nbformat.read(notebook, as_version=4)
    NotebookClient(content, timeout=300, resources={"metadata": {"path": str(quickstart)}}).execute()
    printed = "".join(
        output.get("text", "")
        for cell in content.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    assert "times as fast as the INT8 original" in printed


def test_report_type_reads_its_file(quickstart: Path) -> None:
    assert read_json(quickstart / "runs/quickstart/report.json", Report).run == "quickstart"
