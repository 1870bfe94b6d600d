"""A run whose space has a resolution: every subnet is trained, judged, timed and exported at its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mini import MINI

from bnas.__main__ import main
from bnas.commands.decision import Decision
from bnas.commands.extract import SubnetFile, load_subnet
from bnas.commands.project import open_run
from bnas.commands.verify import Verification
from bnas.export.openvino_runtime import read_network
from bnas.files import read_json
from bnas.graph import ChannelGraph
from bnas.measure import prepare
from bnas.space import SearchSpace, SubnetConfig, costs
from bnas.train import evaluate

OPTIONS = (
    *(option for option in MINI if not option.startswith(("train=", "pretrain="))),
    "pretrain={epochs: 1, warmup_epochs: 0, batch_size: 50, precision: float32}",
    "train={batch_size: 50, recalibrate_images: 100, precision: float32, stages: ["
    "{name: sizes, dims: {resolution: 0}, epochs: 2, lr: 0.05}]}",
    "space.dims=[resolution]",
    "space.resolutions=[12,16,20,24]",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resolution")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("bnas.commands.verify.THROUGHPUT_SECONDS", 0.05)
        assert main(["run", *OPTIONS]) == 0
    return folder / "runs" / "mini"


def test_the_space_has_the_sizes_and_the_costs_follow_them(run: Path) -> None:
    """32² images are the data's own; nearly all multiply-accumulates are those of convolutions."""
    space, graph = read_json(run / "space.json", SearchSpace), read_json(run / "graph.json", ChannelGraph)
    assert [(choice.name, choice.values) for choice in space.choices] == [
        ("resolution", (12, 16, 20, 24, 32))
    ]
    macs = {size: costs(graph, space, SubnetConfig({"resolution": size})).macs for size in (16, 24, 32)}
    assert macs[16] / macs[32] == pytest.approx((16 / 32) ** 2, rel=0.01)
    assert macs[24] / macs[32] == pytest.approx((24 / 32) ** 2, rel=0.01)


def test_every_exported_file_takes_the_size_of_its_subnet(run: Path) -> None:
    sizes = {}
    for file in sorted((run / "subnets").glob("*/subnet.json")):
        config = read_json(file, SubnetFile).config
        sizes[file.parent.name] = size = config["resolution"] if config else 32
        for kind in ("fp32", "int8"):
            assert list(read_network(file.parent / f"{kind}.xml").input(0).shape) == [1, 1, size, size]
    assert sizes["reference"] == 32
    assert sizes["C"] < 32  # the fastest


def test_a_subnet_was_judged_on_images_of_its_size(run: Path) -> None:
    decision, project = read_json(run / "search" / "cpu" / "front.json", Decision), open_run(run)
    config = decision.chosen["C"]
    (member,) = (member for member in decision.members if member.config == config)
    subnet, images = load_subnet(project, "C").to(memory_format=torch.channels_last), project.data.val
    assert evaluate(subnet, images, resolution=config["resolution"]) == member.metric_fp32_percent
    assert member.macs == costs(project.graph, project.space, config).macs
    int8 = read_json(run / "verified.json", Verification).networks["C"]["int8"]
    runner = prepare(run / "subnets" / "C" / "int8.xml", project.config.hw)
    test = project.data.test
    assert evaluate(runner.predict, test, resolution=config["resolution"]) == int8.metric_percent
