"""RetinaNet against torchvision's own, and the levels of its pyramid against the network that has all."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from bnas.detection import RawDetections, RawTensors, decoding_of
from bnas.errors import ConfigError, ModelError
from bnas.models import FAMILIES, ModelConfig, load_model, load_weights
from bnas.models.retinanet import RetinaNet, make_retinanet
from bnas.models.weights import copy_weights

CLASSES, SIZE = 5, 64
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def made(size: tuple[int, int] = (SIZE, SIZE), **options: Any) -> RetinaNet:
    """A small one whose scores lie on both sides of the threshold."""
    torch.manual_seed(0)
    small = {"body": "resnet18", "width": 16, "towers": 2, "anchor_scale": 0.25}
    model = make_retinanet(CLASSES, size, **(small | options))
    for module in model.head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    nn.init.constant_(model.head.classification_head.cls_logits.bias, -3.0)
    model.head.classification_head.cls_logits.weight.data *= 0.02  # no score is 1
    model.head.regression_head.bbox_reg.weight.data *= 0.1
    oracles.randomize_norms(model)
    return model.eval()


def torchvisions(body: str, classes: int) -> nn.Module:
    """torchvision's, put together by hand as its `retinanet_resnet50_fpn` is."""
    backbone = resnet_fpn_backbone(
        backbone_name=body,
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    model: nn.Module = detection.RetinaNet(backbone, classes, min_size=SIZE, max_size=SIZE)
    return model


def test_the_family_is_mlperfs() -> None:
    family = FAMILIES["retinanet"]
    assert (family.num_classes, family.shape, family.task) == (264, (3, 800, 800), "detection")
    with torch.device("meta"):
        ours = family.make(ModelConfig(name="retinanet"), 264, (3, 800, 800)).state_dict()
        theirs = torchvisions("resnext50_32x4d", 264).state_dict()
    assert {name: x.shape for name, x in ours.items()} == {name: x.shape for name, x in theirs.items()}


def test_boxes_and_losses_are_torchvisions() -> None:
    torch.manual_seed(0)
    theirs = oracles.randomize_norms(torchvisions("resnet18", CLASSES)).eval()
    nn.init.constant_(theirs.head.classification_head.cls_logits.bias, -2.0)
    ours, (example,) = load_model(
        ModelConfig(name="retinanet", options={"body": "resnet18"}),
        num_classes=CLASSES,
        shape=(3, SIZE, SIZE),
    )
    assert example.shape == (1, 3, SIZE, SIZE)
    ours.load_state_dict(theirs.state_dict())
    images = [torch.rand(3, SIZE, SIZE) for _ in range(2)]
    with torch.no_grad():
        assert len(theirs(images)[0]["boxes"]) > 10
        for a, b in zip(oracles.flat(ours(images)), oracles.flat(theirs(images)), strict=True):
            assert torch.equal(a, b)
    targets = [
        {"boxes": torch.tensor([[3.0, 4.0, 40.0, 50.0]]), "labels": torch.tensor([label])} for label in (0, 4)
    ]
    losses = [model.train()(images, targets) for model in (ours, theirs)]
    assert set(losses[0]) == {"classification", "bbox_regression"}
    assert losses[0] == losses[1]


@pytest.mark.parametrize("size", [(64, 64), (72, 100)])
def test_both_calls_find_the_same_boxes(size: tuple[int, int]) -> None:
    """A list of images is resized, whatever its aspect; the witness decodes the raw outputs by torchvision's code."""
    model = made(size)
    images = [torch.rand(3, *size), torch.rand(3, 50, 90)]
    batch = torch.stack(
        [
            F.interpolate(((x - MEAN[:, None, None]) / STD[:, None, None])[None], size, mode="bilinear")[0]
            for x in images
        ]
    )
    with torch.no_grad():
        found, raw = model(images), model(batch)
    height, width = size
    pixels = raw.anchors * torch.tensor([width, height, width, height])
    heads = {"cls_logits": raw.logits.split(raw.levels, 1), "bbox_regression": raw.boxes.split(raw.levels, 1)}
    witness = model.postprocess_detections(heads, [pixels.split(raw.levels)] * 2, [size] * 2)
    for ours, theirs, image in zip(found, witness, images, strict=True):
        scale = torch.tensor([image.shape[2] / width, image.shape[1] / height] * 2)
        assert len(ours["boxes"]) > 5
        assert len(ours["scores"].unique()) == len(ours["scores"])
        assert torch.equal(ours["labels"], theirs["labels"])
        assert torch.allclose(ours["scores"], theirs["scores"], atol=1e-5)
        assert torch.allclose(ours["boxes"], theirs["boxes"] * scale, atol=1e-2)


def test_raw_outputs_in_both_modes() -> None:
    model, batch = made(), torch.randn(2, 3, SIZE, 96)
    with torch.no_grad():
        maps = list(model.backbone(batch).values())
    sizes = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (8, 16, 32, 64, 128))
    own = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)
    (pixels,) = own(ImageList(batch, [(SIZE, 96)]), maps)
    for mode in (True, False):
        raw = model.train(mode)(batch)
        assert isinstance(raw, RawDetections)
        assert raw.levels == tuple(9 * h * w for h, w in ((8, 12), (4, 6), (2, 3), (1, 2), (1, 1)))
        assert raw.logits.shape == (2, sum(raw.levels), CLASSES)
        assert raw.boxes.shape == (2, sum(raw.levels), 4)
        assert torch.allclose(raw.anchors, pixels / torch.tensor([96, SIZE, 96, SIZE]))
        assert raw.logits.requires_grad


def test_anchors_keep_their_precision_where_maps_lose_it() -> None:
    model, batch = made(), torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = model(batch)
    assert low.logits.dtype == torch.bfloat16
    assert low.anchors.dtype == torch.float32
    assert torch.equal(low.anchors, model(batch).anchors)


def test_how_boxes_are_made_is_an_option() -> None:
    model = made(score_threshold=0.2, nms_threshold=0.6, candidates=7, most_boxes=3)
    decoding = decoding_of(model)
    assert decoding is not None
    assert (decoding.scores, decoding.weights) == ("sigmoid", (1.0, 1.0, 1.0, 1.0))
    assert (decoding.score_threshold, decoding.nms_threshold) == (0.2, 0.6)
    assert (decoding.candidates, decoding.most_boxes) == (7, 3)
    with torch.no_grad():
        assert len(model([torch.rand(3, 64, 64)])[0]["boxes"]) <= 3
    plain = decoding_of(made())
    assert plain is not None
    assert (plain.score_threshold, plain.nms_threshold, plain.candidates, plain.most_boxes) == (.05, .5, 1000, 300)  # fmt: skip
    with pytest.raises(ConfigError, match="score_threshold"):
        made(score_threshold=2)


# Levels, and the modules of the pyramid that are left, by hand.
FEWER = {
    ("p4", "p5", "p6", "p7"): (2, [0, 1], ["p6", "p7"]),
    ("p3", "p4", "p5", "p6"): (3, [0, 1, 2], ["p6"]),
    ("p3", "p4", "p5", "p7"): (3, [0, 1, 2], ["p6", "p7"]),
    ("p3", "p4", "p6", "p7"): (3, [0, 1, 2], ["p6", "p7"]),
    ("p3", "p5"): (3, [0, 2], []),
    ("p3",): (3, [0], []),
    ("p6",): (1, [0], ["p6"]),
}


@pytest.fixture(scope="module")
def whole() -> RetinaNet:
    return made()


@pytest.mark.parametrize("levels", FEWER)
def test_what_is_left_of_the_levels_is_what_it_was(whole: RetinaNet, levels: tuple[str, ...]) -> None:
    batch, less = torch.randn(1, 3, SIZE, SIZE), made(levels=levels)
    copy_weights(less, whole.state_dict(), "all levels")
    with torch.no_grad():
        everything, left = whole(batch), less(batch)
    for a, b in zip(everything[:3], left[:3], strict=True):
        parts = dict(zip(("p3", "p4", "p5", "p6", "p7"), a.split(everything.levels, -2), strict=True))
        assert torch.equal(torch.cat([parts[name] for name in levels], -2), b)
    assert sum(left.levels) == left.logits.shape[1]
    inner, layers, extra = FEWER[levels]
    names = [name.removeprefix("backbone.fpn.") for name in less.state_dict() if ".fpn." in name]
    assert len({name for name in names if "inner_blocks" in name and "weight" in name}) == inner
    assert [
        int(name.split(".")[1]) for name in names if "layer_blocks" in name and "weight" in name
    ] == layers
    assert [name.split(".")[1] for name in names if "extra_blocks" in name and "weight" in name] == extra
    before = copy.deepcopy(less.state_dict())
    for parameter in less.parameters():
        nn.init.zeros_(parameter)
    copy_weights(less, before, "the same levels")
    assert all(torch.equal(x, before[name]) for name, x in less.state_dict().items())


def test_levels_by_count_in_any_order_and_refused() -> None:
    assert made(levels=3).anchor_generator.sizes == made(levels=["p7", "p5", "p6"]).anchor_generator.sizes
    for wrong in (0, 6, [], "p3", ["p3", "p3"], None):
        with pytest.raises(ModelError, match=r"model.options.levels: expected names as \[p4"):
            made(levels=wrong)
    with pytest.raises(ModelError, match=r"no level 'p8'"):
        made(levels=["p8"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"body": "resnet19"}, "model.options.body: no 'resnet19'; did you mean 'resnet18'"),
        ({"norm": "group"}, "model.options.norm: no 'group'; known: batch, frozen"),
        ({"towers": 0}, "model.options.towers: expected a whole number from 1, got 0"),
        ({"anchor_scale": 0.001}, "model.options.anchor_scale"),
        ({"tower": 3}, "unexpected keyword argument 'tower'"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        load_model(ModelConfig(name="retinanet", options=options))


def test_towers_and_frozen_norms() -> None:
    model = made(towers=6, norm="frozen")
    assert len(model.head.classification_head.conv) == len(model.head.regression_head.conv) == 6
    assert not any("bn" in name for name, _ in model.named_parameters())
    assert model(torch.randn(1, 3, SIZE, SIZE)).logits.shape[2] == CLASSES


def older(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names that torchvision 0.9 gave, and frozen norms' lack of counters: the layout of MLPerf's file."""
    found = {}
    for name, value in weights.items():
        name = re.sub(r"(head\.conv)\.(\d)\.0\.", lambda m: f"{m[1]}.{2 * int(m[2])}.", name)
        name = re.sub(r"(_blocks\.\d)\.0\.", r"\1.", name)
        if not name.endswith("num_batches_tracked"):
            found[name] = value
    return found


@pytest.mark.parametrize("levels", [5, 4])
def test_the_layout_of_mlperfs_checkpoint(
    tmp_path: Path, levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    source, path = made(), tmp_path / "resnext50_32x4d_fpn.pth"
    weights = older(dict(source.state_dict()))
    assert {"head.regression_head.conv.2.weight", "backbone.fpn.inner_blocks.0.bias"} <= set(weights)
    torch.save({"model": weights}, path)
    monkeypatch.setattr("bnas.models.weights.say", lines.append)
    config = ModelConfig(
        name="retinanet",
        weights=str(path),
        options={"body": "resnet18", "width": 16, "towers": 2, "anchor_scale": 0.25, "levels": levels},
    )
    model, _ = load_model(config, num_classes=CLASSES, shape=(3, SIZE, SIZE))
    batch = torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        a, b = source(batch), model(batch)
    assert torch.equal(a.logits[:, -sum(b.levels) :], b.logits)
    assert torch.equal(a.boxes[:, -sum(b.levels) :], b.boxes)
    left_out = f"{path}: 4 tensors left out, of parts that the model is without"
    assert lines == ([left_out] if levels == 4 else [])


def test_weights_for_other_classes(tmp_path: Path) -> None:
    path = tmp_path / "mlperf.pth"
    torch.save({"model": older(dict(made().state_dict()))}, path)
    torch.manual_seed(1)
    target = make_retinanet(7, (SIZE, SIZE), body="resnet18", width=16, towers=2)
    fresh = copy.deepcopy(target.head.classification_head.cls_logits)
    with pytest.raises(
        ModelError, match=r"mlperf.pth: weights for another number of classes \(5 instead of 7: head"
    ):
        load_weights(target, path)
    load_weights(target, path, new_head=True)
    own = target.head.classification_head.cls_logits
    assert torch.equal(own.weight, fresh.weight)
    assert torch.equal(
        target.head.regression_head.bbox_reg.weight, made().head.regression_head.bbox_reg.weight
    )


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(dict(made(towers=3).state_dict()), tmp_path / "w.pth")
    with pytest.raises(
        ModelError, match=r"w.pth does not fit .* 4 unexpected: head.classification_head.conv.2.0"
    ):
        load_weights(made(), tmp_path / "w.pth")
    torch.save(dict(made(levels=4).state_dict()), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"4 missing: backbone.fpn.inner_blocks.0.0.weight"):
        load_weights(made(), tmp_path / "w.pth")
    normed = dict(made().state_dict()) | {"backbone.fpn.inner_blocks.0.1.weight": torch.ones(16)}
    torch.save(normed, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"1 unexpected: backbone.fpn.inner_blocks.0.1.weight"):
        load_weights(made(), tmp_path / "w.pth")


def test_it_is_exported() -> None:
    openvino = pytest.importorskip("openvino")
    from bnas.export.openvino_ir import convert

    model = RawTensors(made()).eval()
    batch = torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        expected = model(batch)
        program = torch.export.export(copy.deepcopy(model), (batch,))
        oracles.assert_close(expected, program.module()(batch), 1e-5)
    functions = {str(node.target) for node in program.run_decompositions({}).graph.nodes}
    assert not any("arange" in name for name in functions), "the anchors are no part of the deployed network"
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(convert(model, batch), "CPU", exact)
    found = [torch.from_numpy(value.copy()) for value in compiled(batch.numpy()).values()]
    oracles.assert_close(expected, found, 1e-4)
