"""Oracles 1, 2, 4, 5 and 6 with fewer levels of a pyramid, on torchvision's detectors and on small networks."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import oracles
import pytest
import torch
from pyramid_networks import IMAGES, ByName, Dense
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from bnas.graph import trace
from bnas.space import SpaceRules, SubnetConfig, costs, derive_space, layer_costs
from bnas.supernet import Reshaping, Supernet, extract_subnet, prove, reshape, reshaping

SIZE = 96
CHOICE = "backbone.fpn.levels"
BOXES = torch.tensor([[4.0, 4.0, 20.0, 24.0], [10.0, 0.0, 90.0, 60.0], [0.0, 0.0, 95.0, 95.0]])
# By hand: sizes of anchors by level, their aspect ratios, and names of the levels that regions are taken from.
_OCTAVES = [(s, int(s * 2 ** (1 / 3)), int(s * 2 ** (2 / 3))) for s in (32, 64, 128, 256, 512)]
ANCHORS: dict[str, tuple[list[tuple[int, ...]], tuple[float, ...]]] = {
    "retinanet": (_OCTAVES, (0.5, 1.0, 2.0)),
    "fcos": ([(8,), (16,), (32,), (64,), (128,)], (1.0,)),
    "faster_rcnn": ([(32, 64, 128, 256, 512)] * 3, (0.5, 1.0, 2.0)),
    "mask_rcnn": ([(32,), (64,), (128,), (256,), (512,)], (0.5, 1.0, 2.0)),
}
REGIONS = {"faster_rcnn": ["0", "1"], "mask_rcnn": ["0", "1", "2", "3"]}
POOLERS = {"box": 7, "mask": 14}


def detector(name: str) -> nn.Module:
    """torchvision's detectors on its smallest bodies."""
    torch.manual_seed(0)
    sizes = {"num_classes": 5, "min_size": SIZE, "max_size": SIZE}
    few = {"rpn_post_nms_top_n_test": 10}
    model: nn.Module
    if name == "faster_rcnn":
        model = detection.fasterrcnn_mobilenet_v3_large_fpn(
            weights=None, weights_backbone=None, **sizes, **few
        )
    elif name == "mask_rcnn":
        body = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
        model = detection.MaskRCNN(body, **sizes, **few)
    else:
        extra = LastLevelP6P7(256, 256)
        body = resnet_fpn_backbone(
            backbone_name="resnet18",
            weights=None,
            trainable_layers=5,
            returned_layers=[2, 3, 4],
            extra_blocks=extra,
        )
        kind = {"retinanet": detection.RetinaNet, "fcos": detection.FCOS}[name]
        model = kind(body, **sizes)
    return oracles.randomize_norms(model).eval()


class Built:
    def __init__(self, name: str) -> None:
        self.name, self.original = name, detector(name)
        self.inputs = ([torch.rand(3, SIZE, SIZE)],)
        self.graph = trace(self.original, self.inputs)
        rules = SpaceRules(dims=("levels", "width"), width_ratios=(0.5, 1.0))
        self.space = derive_space(self.graph, rules)
        self.supernet = Supernet(copy.deepcopy(self.original), self.graph, self.space)

    def configs(self) -> list[tuple[int, SubnetConfig]]:
        """How many levels are dropped, in narrow subnets and, with the fewest levels, in a wide one."""
        values = self.space.choice_by_name[CHOICE].values
        configs = [
            (values[-1] - kept, SubnetConfig({**self.space.smallest.values, CHOICE: kept})) for kept in values
        ]
        return [*configs, (configs[0][0], SubnetConfig({**self.space.largest.values, CHOICE: values[0]}))]


@pytest.fixture(scope="module", params=[*ANCHORS])
def built(request: pytest.FixtureRequest) -> Built:
    return Built(request.param)


@torch.no_grad()
def inside(model: nn.Module) -> list[Any]:
    """What a detector computes without deciding by values: heads, anchors, what it makes of given boxes."""
    torch.manual_seed(1)
    images = torch.randn(2, 3, SIZE, SIZE)
    maps = model.backbone(images)
    own = model.rpn if hasattr(model, "rpn") else model
    anchors = own.anchor_generator(ImageList(images, [(SIZE, SIZE)] * 2), list(maps.values()))
    found = [own.head(list(maps.values())), anchors]
    for name in POOLERS:
        pool, head, predict = (
            getattr(getattr(model, "roi_heads", None), f"{name}_{part}", None)
            for part in ("roi_pool", "head", "predictor")
        )
        if pool is not None:
            found.append(predict(head(pool(maps, [BOXES, BOXES[:1]], [(SIZE, SIZE)] * 2))))
    return found


def by_hand(built: Built, config: SubnetConfig, dropped: int) -> nn.Module:
    """Oracle 1's witness: the full model, the pyramid's maps filtered, and its anchors and poolers made anew."""
    model = oracles.dropped_channels_unread(built.original, built.graph, built.space, config)

    def without_finest(module: nn.Module, args: Any, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        return OrderedDict(list(maps.items())[dropped:])

    model.get_submodule("backbone.fpn").register_forward_hook(without_finest)
    sizes, ratios = ANCHORS[built.name]
    own = model.rpn if hasattr(model, "rpn") else model
    own.anchor_generator = AnchorGenerator(
        tuple(sizes[dropped:]), tuple(ratios for _ in range(len(sizes) - dropped))
    )
    for name, size in POOLERS.items():
        if getattr(getattr(model, "roi_heads", None), f"{name}_roi_pool", None) is not None:
            setattr(
                model.roi_heads,
                f"{name}_roi_pool",
                MultiScaleRoIAlign(REGIONS[built.name][dropped:], size, 2),
            )
    return model


def test_extracted_equals_by_hand_equals_activated(built: Built) -> None:
    assert [dropped for dropped, _ in built.configs()][-3:] == [1, 0, built.configs()[0][0]]
    for dropped, config in built.configs():
        subnet = extract_subnet(built.supernet, config)
        result = inside(subnet)
        oracles.assert_close(inside(by_hand(built, config, dropped)), result)
        with built.supernet.activated(config):
            oracles.assert_close(inside(built.supernet.model), result, 1e-5)
            assert list(built.supernet.model.state_dict()) == list(built.original.state_dict())
        assert oracles.run(subnet, built.inputs)[0]["boxes"].shape[1] == 4


def test_largest_is_the_detector_after_others_ran(built: Built) -> None:
    built.supernet.activate(built.space.smallest)
    built.supernet(*built.inputs)
    oracles.check_largest(built.original, built.supernet, built.inputs)


def test_costs_are_those_counted(built: Built) -> None:
    """How many boxes reach the second stage of an R-CNN is decided by values: its first stage is compared."""
    for _, config in built.configs():
        if "rcnn" not in built.name:
            oracles.check_costs(built.supernet, config, built.inputs)
            continue
        subnet = extract_subnet(built.supernet, config)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            subnet.rpn.head(list(subnet.backbone(torch.rand(1, 3, SIZE, SIZE)).values()))
        layers = layer_costs(built.graph, built.space, config)
        macs = sum(layer.macs for layer in layers if not layer.name.startswith("roi_heads"))
        assert 2 * macs == counter.get_total_flops()
        parameters = costs(built.graph, built.space, config).parameters
        assert parameters == sum(parameter.numel() for parameter in subnet.parameters())


def test_a_subnet_is_made_again_from_a_fresh_model(built: Built) -> None:
    config = built.space.smallest
    subnet, how = extract_subnet(built.supernet, config), reshaping(built.supernet, config)
    oracles.check_round_trip(Reshaping, how)
    fresh = detector(built.name)
    reshape(fresh, how, {name: tuple(value.shape) for name, value in subnet.state_dict().items()})
    fresh.load_state_dict(subnet.state_dict())
    oracles.assert_close(inside(fresh), inside(subnet), 1e-6)


def test_release_gives_the_detector_back(built: Built) -> None:
    """Last of the module."""
    built.supernet.activate(built.space.smallest)
    model = built.supernet.release()
    oracles.assert_close(inside(model), inside(built.original), 0.0)
    assert "get_result_from_inner_blocks" not in vars(model.get_submodule("backbone.fpn"))


def dense(model: nn.Module) -> Supernet:
    graph = trace(model, IMAGES)
    rules = SpaceRules(dims=("levels", "width"), width_multiple=4)
    return Supernet(model, graph, derive_space(graph, rules))


def test_an_extracted_subnet_holds_nothing_of_dropped_levels() -> None:
    supernet = dense(Dense())
    assert supernet.space.choice_by_name["fpn.levels"].values == (2, 3, 4)
    two = SubnetConfig({**supernet.space.largest.values, "fpn.levels": 2})
    supernet.activate(two)
    for _ in range(2):  # while these levels are dropped, and while none is
        subnet = extract_subnet(supernet, two)
        assert [name for name in subnet.state_dict() if name.startswith("fpn")] == [
            "fpn.inner_blocks.0.0.weight",
            "fpn.inner_blocks.0.0.bias",
            "fpn.layer_blocks.0.0.weight",
            "fpn.layer_blocks.0.0.bias",
        ]
        whole = supernet.model.state_dict()
        assert torch.equal(
            subnet.state_dict()["fpn.layer_blocks.0.0.weight"], whole["fpn.layer_blocks.2.0.weight"]
        )
        assert subnet.body.return_layers == {"c": "coarse"}
        assert not {"get_result_from_inner_blocks", "get_result_from_layer_blocks"} & set(vars(subnet.fpn))
        supernet.activate(supernet.space.largest)
    assert supernet.model.body.return_layers == {"a": "fine", "b": "middle", "c": "coarse"}


def test_dropped_levels_get_no_gradient() -> None:
    supernet = dense(Dense())
    for kept in (2, 3, 4):
        config = SubnetConfig({**supernet.space.smallest.values, "fpn.levels": kept})
        oracles.check_gradients(supernet, config, IMAGES)
        oracles.check_costs(supernet, config, IMAGES)


def test_levels_that_the_model_asks_for_are_kept() -> None:
    assert prove(dense(Dense()), IMAGES).refused == ()
    proof = prove(dense(ByName()), IMAGES)
    assert [(one.choice, one.reason) for one in proof.refused] == [("fpn.levels", "KeyError: 'fine'")]
