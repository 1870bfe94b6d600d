"""Oracles 1–6 on a small RetinaNet called with batches, and what its subnets make of lists of images."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from safetensors.torch import save_model
from torch import Tensor, nn

from bnas.__main__ import main
from bnas.commands.extract import SubnetFile, rebuild
from bnas.files import read_json, write_json
from bnas.graph import at_resolutions, trace
from bnas.models import ModelConfig
from bnas.models.retinanet import RetinaNet, make_retinanet
from bnas.space import SearchSpace, SpaceRules, SubnetConfig, derive_space
from bnas.supernet import Reshaping, Supernet, extract_subnet, prove, reshape, reshaping

SIZE, SMALLER = 96, 64
LEVELS, TOWERS = "backbone.fpn.levels", ("classification", "regression")
IMAGES = (torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)),)
RULES = SpaceRules(
    dims=("resolution", "levels", "depth", "width"), resolutions=(SMALLER,), skip=("head.*_head.conv.[1-9]*",)
)


def detector(**options: Any) -> RetinaNet:
    torch.manual_seed(0)
    small = {"body": "resnet18", "width": 16, "towers": 3, "anchor_scale": 0.25}
    model = make_retinanet(4, (SIZE, SIZE), **(small | options))
    for module in model.head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    nn.init.constant_(model.head.classification_head.cls_logits.bias, -2.0)
    model.head.classification_head.cls_logits.weight.data *= 0.02  # no score is 1
    oracles.randomize_norms(model)
    return model.eval()


class Built:
    def __init__(self) -> None:
        self.original = detector()
        self.graph = at_resolutions(self.original, IMAGES, trace(self.original, IMAGES), RULES.resolutions)
        self.space = derive_space(self.graph, RULES)
        self.supernet = Supernet(copy.deepcopy(self.original), self.graph, self.space)

    def configs(self) -> list[SubnetConfig]:
        """At the model's own resolution."""
        rng = np.random.default_rng(3)
        drawn = [self.space.sample(rng), self.space.smallest]
        drawn.append(SubnetConfig({**self.space.largest.values, LEVELS: 4}))
        return [SubnetConfig({**config.values, "resolution": SIZE}) for config in drawn]


@pytest.fixture(scope="module")
def built() -> Built:
    return Built()


def test_what_is_elastic(built: Built) -> None:
    choices = built.space.choice_by_name
    assert choices[LEVELS].values == (3, 4, 5)
    assert choices["backbone.body.layer1.depth"].values == (0, 1, 2)
    for head in TOWERS:
        assert choices[f"head.{head}_head.conv.depth"].values == (0, 1, 2)
        assert choices[f"head.{head}_head.conv.0.0.width"].values == (8, 16)
    assert choices["backbone.fpn.layer_blocks.2.0.width"].values == (8, 16)
    assert choices["backbone.fpn.inner_blocks.2.0.width"].values == (8, 16)
    assert choices["backbone.body.layer4.0.conv2.width"].values == (256, 384, 512)
    fixed = {group.name: group.why for group in built.graph.groups if not group.free}
    assert fixed == {
        "head.classification_head.cls_logits": ("is an output of the model",),
        "head.regression_head.bbox_reg": ("is an output of the model",),
    }


def test_every_choice_is_proved_to_run(built: Built) -> None:
    assert prove(built.supernet, IMAGES).refused == ()


def test_the_largest_is_the_detector(built: Built) -> None:
    built.supernet.activate(built.space.smallest)
    oracles.check_largest(built.original, built.supernet, IMAGES)


def test_extracted_equals_unread_equals_activated(built: Built) -> None:
    """Of levels, the witness has all, and what is left of them is the end of each of its outputs."""
    for config in built.configs():
        subnet = extract_subnet(built.supernet, config)
        result = oracles.run(subnet, IMAGES)
        all_levels = SubnetConfig({**config.values, LEVELS: 5})
        witness = oracles.dropped_channels_unread(built.original, built.graph, built.space, all_levels)
        everything = oracles.run(witness, IMAGES)
        count = sum(everything.levels[5 - config[LEVELS] :])
        assert result.levels == everything.levels[5 - config[LEVELS] :]
        oracles.assert_close([x[..., -count:, :] for x in everything[:3]], result)
        with built.supernet.activated(config):
            oracles.assert_close(oracles.run(built.supernet, IMAGES), result, 1e-5)
        assert result.decoding == built.original.decoding


def test_inactive_weights_get_no_gradient(built: Built) -> None:
    oracles.check_gradients(built.supernet, built.configs()[0], IMAGES)


def test_costs_are_those_counted(built: Built) -> None:
    for config in (built.space.largest, *built.configs()):
        oracles.check_costs(built.supernet, config, IMAGES)
    small = (torch.randn(1, 3, SMALLER, SMALLER),)
    oracles.check_costs(built.supernet, built.space.smallest, small)


def pixels_of(model: RetinaNet, images: list[Tensor], size: int) -> list[dict[str, Tensor]]:
    """The boxes in a list of square images of `size`, from the raw outputs by torchvision's own decoding."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    batch = torch.stack([(image - mean[:, None, None]) / std[:, None, None] for image in images])
    raw = model(batch)
    heads = {"cls_logits": raw.logits.split(raw.levels, 1), "bbox_regression": raw.boxes.split(raw.levels, 1)}
    anchors = [(raw.anchors * size).split(raw.levels)] * len(images)
    found: list[dict[str, Tensor]] = model.postprocess_detections(
        heads, anchors, [(size, size)] * len(images)
    )
    return found


@torch.no_grad()
@pytest.mark.parametrize("size", [SIZE, SMALLER])
def test_a_subnet_takes_lists_and_batches(built: Built, size: int) -> None:
    config = SubnetConfig({**built.space.smallest.values, "resolution": size, LEVELS: 4})
    subnet = extract_subnet(built.supernet, config)
    assert type(subnet) is RetinaNet
    assert subnet.image_size == (size, size)
    assert built.supernet.model.image_size == (SIZE, SIZE)
    images = [torch.rand(3, size, size) for _ in range(2)]
    for ours, theirs in zip(subnet(images), pixels_of(subnet, images, size), strict=True):
        assert len(ours["boxes"]) > 5
        assert torch.equal(ours["labels"], theirs["labels"])
        assert torch.allclose(ours["scores"], theirs["scores"], atol=1e-5)
        assert torch.allclose(ours["boxes"], theirs["boxes"], atol=1e-2)
    assert subnet([torch.rand(3, 200, 300)])[0]["boxes"].max() > SIZE


def test_a_subnet_is_made_again_from_a_fresh_model(built: Built) -> None:
    config = SubnetConfig({**built.space.smallest.values, LEVELS: 4})
    subnet, how = extract_subnet(built.supernet, config), reshaping(built.supernet, config)
    oracles.check_round_trip(Reshaping, how)
    fresh = detector()
    reshape(fresh, how, {name: tuple(value.shape) for name, value in subnet.state_dict().items()})
    fresh.load_state_dict(subnet.state_dict())
    assert fresh.image_size == (SMALLER, SMALLER)
    batch, images = torch.randn(2, 3, SMALLER, SMALLER), [torch.rand(3, 70, 50)]
    oracles.assert_close(oracles.run(fresh, (batch,)), oracles.run(subnet, (batch,)), 1e-6)
    oracles.assert_close(oracles.run(fresh, (images,)), oracles.run(subnet, (images,)), 1e-6)
    assert fresh.decoding == subnet.decoding


def test_a_subnet_is_made_again_from_its_folder(built: Built, tmp_path: Path) -> None:
    config = SubnetConfig({**built.space.smallest.values, LEVELS: 4})
    subnet, how = extract_subnet(built.supernet, config), reshaping(built.supernet, config)
    options = {"body": "resnet18", "width": 16, "towers": 3, "anchor_scale": 0.25}
    model = ModelConfig(name="retinanet", options=options, num_classes=4, shape=(3, SIZE, SIZE))
    write_json(tmp_path / "subnet.json", SubnetFile(name="A", config=config, model=model, reshaping=how))
    save_model(subnet, str(tmp_path / "weights.safetensors"))
    again, images = rebuild(tmp_path), [torch.rand(3, 70, 50)]
    oracles.assert_close(oracles.run(again, (images,)), oracles.run(subnet, (images,)), 1e-6)
    oracles.assert_close(oracles.run(again, IMAGES), oracles.run(subnet, IMAGES), 1e-6)


def test_build_shows_what_is_elastic_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = "model.options={body: resnet18, width: 16, towers: 2}"
    line = ["build", "model=retinanet", "space=retinanet", "model.shape=[3,64,64]", "space.random_subnets=0"]
    assert main([*line, options]) == 0
    space = read_json(tmp_path / "runs" / "retinanet" / "space.json", SearchSpace)
    assert space.dims == ("levels", "depth", "width")
    assert space.choice_by_name["head.regression_head.conv.depth"].values == (0, 1)


@pytest.mark.parametrize(
    ("levels", "left"), [(["p4", "p5", "p6", "p7"], (3, 4)), (["p3", "p4", "p5", "p6"], (2, 3, 4))]
)
def test_levels_stay_elastic_where_one_is_removed_by_hand(levels: list[str], left: tuple[int, ...]) -> None:
    model = detector(levels=levels)
    graph = trace(model, IMAGES)
    supernet = Supernet(model, graph, derive_space(graph, SpaceRules(dims=("levels",))))
    assert supernet.space.choice_by_name[LEVELS].values == left
    assert prove(supernet, IMAGES).refused == ()
    subnet = extract_subnet(supernet, supernet.space.smallest)
    assert oracles.run(subnet, IMAGES).levels == oracles.run(model, IMAGES).levels[-left[0] :]


def test_a_level_removed_between_others_leaves_no_choice_of_them() -> None:
    graph = trace(detector(levels=["p3", "p5", "p6", "p7"]), IMAGES)
    assert graph.pyramids[0].why[0] == "has levels for which anchor_generator makes no anchors"


@torch.no_grad()
def test_grouped_convolutions_are_cut_in_whole_groups() -> None:
    images = (torch.randn(1, 3, 64, 64),)
    model = detector(body="resnext50_32x4d")
    graph = trace(model, images)
    supernet = Supernet(
        model, graph, derive_space(graph, SpaceRules(dims=("width",), width_ratios=(0.5, 1.0)))
    )
    name = "backbone.body.layer1.0.conv1.width"
    assert supernet.space.choice_by_name[name].values == (64, 128)
    subnet = extract_subnet(supernet, supernet.space.smallest)
    conv = subnet.get_submodule("backbone.body.layer1.0.conv2")
    assert (conv.in_channels, conv.out_channels, conv.groups) == (64, 64, 16)
    assert conv.weight.shape == (64, 4, 3, 3)
    with supernet.activated(supernet.space.smallest):
        oracles.assert_close(oracles.run(supernet, images), oracles.run(subnet, images), 1e-5)


def test_reordering_keeps_the_largest(built: Built) -> None:
    """Last but one of the module: it changes the weights."""
    oracles.check_reordering(built.supernet, IMAGES)


def test_release_gives_the_detector_back(built: Built) -> None:
    built.supernet.activate(built.space.smallest)
    assert type(built.supernet.release().backbone.fpn) is type(built.original.backbone.fpn)
