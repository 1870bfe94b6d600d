from __future__ import annotations

import pytest
import torch
import torchvision
from pyramid_networks import IMAGES, Dense, Fed, HeadForEach, Mixed, OneLevel, OwnForward
from torch import nn

from bnas.graph import Level, Pyramid, Resolution, at_resolutions, trace
from bnas.graph.costs import costs, layer_costs


def test_levels_and_what_goes_with_them() -> None:
    assert trace(Dense(), IMAGES).pyramids == (
        Pyramid(
            name="fpn",
            levels=("fine", "middle", "coarse", "pool"),
            droppable=(
                Level(
                    name="fine",
                    modules=("fpn.inner_blocks.0", "fpn.layer_blocks.0"),
                    positions=(("head", 256),),
                ),
                Level(
                    name="middle",
                    modules=("fpn.inner_blocks.1", "fpn.layer_blocks.1"),
                    positions=(("head", 64),),
                ),
            ),
            followers=("fpn", "body"),
            type="FeaturePyramidNetwork",
        ),
    )


def test_costs_without_levels() -> None:
    graph = trace(Dense(), IMAGES)
    whole, two = costs(graph), costs(graph, levels={"fpn": 2})
    body = 8 * 3 * 9 * 256 + 16 * 8 * 9 * 64 + 16 * 16 * 9 * 16
    coarse, head = 16 * 8 * 16 + 8 * 8 * 9 * 16, 8 * 4 * 9
    assert two.macs == body + coarse + head * (16 + 4)
    assert (
        two.parameters == (8 * 27 + 8) + (16 * 72 + 16) + (16 * 144 + 16) + (8 * 16 + 8) + (8 * 72 + 8) + 292
    )
    finer = (8 * 8 + 8 * 8 * 9) * 256 + (16 * 8 + 8 * 8 * 9) * 64
    assert whole.macs == body + coarse + finer + head * (256 + 64 + 16 + 4)
    assert costs(graph, levels={"fpn": 4}) == whole
    assert {layer.name: layer.positions for layer in layer_costs(graph, levels={"fpn": 3})} == {
        "body.a": 256,
        "body.b": 64,
        "body.c": 16,
        "fpn.inner_blocks.2.0": 16,
        "fpn.layer_blocks.2.0": 16,
        "fpn.inner_blocks.1.0": 64,
        "fpn.layer_blocks.1.0": 64,
        "head": 64 + 16 + 4,
    }


def test_costs_without_levels_at_another_resolution() -> None:
    model = Dense()
    graph = at_resolutions(model, IMAGES, trace(model, IMAGES), (16, 24))
    assert isinstance(graph.resolutions[0], Resolution)
    positions = {
        layer.name: layer.positions for layer in layer_costs(graph, resolution=24, levels={"fpn": 2})
    }
    assert positions["head"] == 3 * 3 + 2 * 2  # a stride of 2 leaves 2 of 3
    macs = costs(graph, resolution=16, levels={"fpn": 2}).macs
    assert macs == 8 * 27 * 64 + 16 * 72 * 16 + 16 * 144 * 4 + (16 * 8 + 8 * 72) * 4 + 8 * 4 * 9 * 5


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (HeadForEach(), "has levels that heads.0 reads and others that it does not"),
        (Mixed(), "has levels that head reads mixed with some others"),
        (OwnForward(), "has a forward of its own"),
        (Fed(), "is fed by no IntermediateLayerGetter, which could leave levels out"),
        (OneLevel(), "has a single level that can stay alone"),
    ],
)
def test_levels_that_must_all_stay(model: nn.Module, why: str) -> None:
    (pyramid,) = trace(model, IMAGES).pyramids
    assert pyramid.droppable == ()
    assert why in pyramid.why
    assert pyramid.possible == (len(pyramid.levels),)


def test_no_mark_stays_behind() -> None:
    """A second trace of the same model finds the same."""
    model = Dense()
    assert trace(model, IMAGES) == trace(model, IMAGES)


# Levels of the body and all levels; modules that know of them, from torchvision's source.
DETECTORS = {
    "retinanet_resnet50_fpn": (3, 5, {"anchor_generator"}),
    "fcos_resnet50_fpn": (3, 5, {"anchor_generator"}),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (2, 3, {"rpn.anchor_generator", "roi_heads.box_roi_pool"}),
    "keypointrcnn_resnet50_fpn": (
        4, 5, {"rpn.anchor_generator", "roi_heads.box_roi_pool", "roi_heads.keypoint_roi_pool"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DETECTORS)
def test_levels_of_torchvisions_detectors(name: str) -> None:
    body, levels, followers = DETECTORS[name]
    few = {"rpn_post_nms_top_n_test": 10} if "rcnn" in name else {}
    model = torchvision.models.detection.__dict__[name](
        weights=None, weights_backbone=None, min_size=64, max_size=64, **few
    )
    (pyramid,) = trace(model, ([torch.rand(3, 64, 64)],)).pyramids
    assert pyramid.why == ()
    assert len(pyramid.levels) == levels
    assert pyramid.possible == tuple(range(levels - body + 1, levels + 1))
    assert set(pyramid.followers) == {"backbone.fpn", "backbone.body"} | followers
