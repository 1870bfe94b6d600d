from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Literal

import pytest
import torch
from tiny_detector import SCALES, anchors_of, rectangles, some_boxes, tiny_detector
from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.models.detection._utils import BoxCoder, Matcher, SSDMatcher
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from bnas.detection import Boxes, Decoding, RawDetections, packed
from bnas.detection.coding import encoded
from bnas.detection.losses import detection_losses
from bnas.errors import DataError
from bnas.models.retinanet import make_retinanet

CLASSES = 4
Kind = Literal["sigmoid", "softmax"]
KINDS: tuple[Kind, ...] = ("sigmoid", "softmax")
PIXELS = torch.tensor([200.0, 120.0, 200.0, 120.0])
# on whole pixels, as anchors are: many then overlap an object that is larger than they are by exactly as much
ANCHORS = [
    (anchors_of(n, n, scale) * PIXELS + 1e-3).floor() / PIXELS
    for n, scale in ((10, SCALES[0]), (5, SCALES[1]))
]


def raw(kind: Kind, count: int, seed: int = 0) -> RawDetections:
    weights = (1.0, 1.0, 1.0, 1.0) if kind == "sigmoid" else (10.0, 10.0, 5.0, 5.0)
    rng = torch.Generator().manual_seed(seed)
    levels = tuple(map(len, ANCHORS))
    logits = torch.randn(count, sum(levels), CLASSES + (kind == "softmax"), generator=rng)
    boxes = torch.randn(count, sum(levels), 4, generator=rng)
    return RawDetections(
        logits.requires_grad_(),
        boxes.requires_grad_(),
        torch.cat(ANCHORS),
        levels,
        Decoding(scores=kind, weights=weights),
    )


def objects(count: int, seed: int) -> Boxes:
    rng = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=rng) * 0.7
    sizes = 0.04 + torch.rand(count, 2, generator=rng) * 0.6
    boxes = torch.cat([corner, (corner + sizes).clamp(max=1)], 1)
    return some_boxes(
        boxes.tolist(), torch.randint(CLASSES, (count,), generator=rng).tolist(), size=(200, 120)
    )


def of_torchvision(raw: RawDetections, images: list[Boxes]) -> dict[str, Tensor]:
    """Its own `compute_loss`, in pixels."""
    anchors = [(raw.anchors * PIXELS).round()] * len(images)
    softmax = raw.decoding.scores == "softmax"
    targets = [{"boxes": own.boxes * PIXELS, "labels": own.labels + softmax} for own in images]
    heads = {"cls_logits": raw.logits, "bbox_regression": raw.boxes}
    if softmax:
        matcher = SSDMatcher(0.5)
        matched = [
            matcher(box_iou(own["boxes"], anchors[0]))
            if len(own["boxes"])
            else torch.full((len(anchors[0]),), -1)
            for own in targets
        ]
        this = SimpleNamespace(box_coder=BoxCoder(raw.decoding.weights), neg_to_pos_ratio=3.0)
        return SSD.compute_loss(this, targets, heads, anchors, matched)
    head = RetinaNetHead(8, 1, CLASSES)
    this = SimpleNamespace(proposal_matcher=Matcher(0.5, 0.4, allow_low_quality_matches=True), head=head)
    return RetinaNet.compute_loss(this, targets, heads, anchors)


@pytest.mark.parametrize("counts", [(3, 1, 6), (0, 4, 2), (0, 0), (12,)])
@pytest.mark.parametrize("kind", KINDS)
def test_as_torchvision_has_them(kind: Kind, counts: tuple[int, ...]) -> None:
    images = [objects(count, seed) for seed, count in enumerate(counts, 1)]
    own, other = raw(kind, len(images)), raw(kind, len(images))
    found, expected = detection_losses(own, packed(images)), of_torchvision(other, images)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    sum(found.values(), torch.zeros(())).backward()
    sum(expected.values(), torch.zeros(())).backward()
    torch.testing.assert_close(own.logits.grad, other.logits.grad, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(own.boxes.grad, other.boxes.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_right_answers_cost_next_to_nothing(kind: Kind) -> None:
    """Logits and regressions written by hand for an anchor that is the object itself."""
    own = raw(kind, 1)
    background = [8.0] + [-8.0] * CLASSES if kind == "softmax" else [-8.0] * CLASSES
    logits = torch.tensor(background).expand(1, len(own.anchors), -1).clone()
    image = some_boxes([own.anchors[130].clamp(0, 1).tolist()], [2])
    assert torch.equal(image.boxes[0], own.anchors[130])
    low = detection_losses(own._replace(logits=logits, boxes=own.boxes * 0), packed([image]))
    near = box_iou(image.boxes, own.anchors)[0]
    places = (near >= 0.5).nonzero().flatten()
    logits[0, places, 2 + (kind == "softmax")] = 16.0
    regressions = torch.zeros_like(own.boxes)
    regressions[0, places] = encoded(
        image.boxes.expand(len(places), 4), own.anchors[places], own.decoding.weights
    )
    right = detection_losses(own._replace(logits=logits, boxes=regressions), packed([image]))
    assert right["classification"] < 0.01 < low["classification"]
    assert right["bbox_regression"] < 1e-6 < low["bbox_regression"]


@pytest.mark.parametrize("kind", KINDS)
def test_anchors_in_a_crowd_do_not_count(kind: Kind) -> None:
    """The left half is a crowd: whatever is said there of anchors without an object changes no loss."""
    single = some_boxes([[0.6, 0.2, 0.9, 0.6]], [1])
    images = [some_boxes([[0.6, 0.2, 0.9, 0.6], [0.0, 0.0, 0.5, 1.0]], [1, 0], crowd=[False, True])]
    own = raw(kind, 1)
    inside = own.anchors[:, 2] <= 0.5
    loud = own.logits.detach().clone()
    loud[0, inside, 1:] += 9
    quiet = detection_losses(own, packed(images))
    assert detection_losses(own._replace(logits=loud), packed(images)) == quiet
    assert (
        detection_losses(own._replace(logits=loud), packed([single]))["classification"]
        > 2 * quiet["classification"]
    )
    outside = own.logits.detach().clone()
    outside[0, own.anchors[:, 0] > 0.5, 1:] += 9
    assert (
        detection_losses(own._replace(logits=outside), packed(images))["classification"]
        > quiet["classification"]
    )
    assert quiet["bbox_regression"] == detection_losses(own, packed([single]))["bbox_regression"]


@pytest.mark.parametrize("kind", KINDS)
def test_objects_that_no_anchor_overlaps_are_left_out(kind: Kind) -> None:
    """One of no area, which would overlap all anchors equally little, and one outside of them all."""
    own, single = raw(kind, 1), [objects(2, 1)]
    strange = some_boxes(
        [*single[0].boxes.tolist(), [0.5, 0.5, 0.5, 0.5], [3.0, 3.0, 4.0, 4.0]], [*single[0].labels, 1, 2]
    )
    found, expected = detection_losses(own, packed([strange])), detection_losses(own, packed(single))
    assert found == expected
    assert all(torch.isfinite(value) for value in found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_in_half_precision_as_in_single(kind: Kind) -> None:
    own, targets = raw(kind, 2), packed([objects(3, 1), objects(2, 2)])
    half = own._replace(logits=own.logits.bfloat16(), boxes=own.boxes.bfloat16())
    same = own._replace(logits=half.logits.float(), boxes=half.boxes.float())
    assert detection_losses(half, targets) == detection_losses(same, targets)


def test_labels_that_are_no_classes_are_named() -> None:
    for kind in KINDS:
        detection_losses(raw(kind, 1), packed([some_boxes([[0, 0, 1, 1]], [CLASSES - 1])]))
        with pytest.raises(DataError, match=r"label 4 is not one of the detector's classes, 0 to 3"):
            detection_losses(raw(kind, 1), packed([some_boxes([[0, 0, 1, 1]], [CLASSES])]))
    with pytest.raises(DataError, match="of 1 images, the detector was given 2"):
        detection_losses(raw("sigmoid", 2), packed([objects(1, 1)]))
    with pytest.raises(DataError, match="detectors need images with boxes"):
        detection_losses(raw("sigmoid", 2), torch.tensor([1, 2]))


@pytest.mark.parametrize("kind", KINDS)
def test_steps_along_the_gradient_make_them_smaller(kind: Kind) -> None:
    detector, data = tiny_detector(kind), rectangles()
    images, targets = data.train.batch(range(8))
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.02)
    losses = []
    for _ in range(6):
        loss = sum(detection_losses(detector(images), targets).values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_a_whole_retinanet_has_torchvisions_losses() -> None:
    """Called with a list of images and their boxes in pixels it computes them itself."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make_retinanet(
            CLASSES, (128, 128), body="resnet18", levels=("p4", "p5", "p6"), width=16, towers=1
        )
        images = [torch.rand(3, 128, 128) for _ in range(2)]
    model.train()
    for norm in (own for own in model.modules() if isinstance(own, torch.nn.BatchNorm2d)):
        norm.eval()
    own = [replace(objects(count, count), width=128, height=128) for count in (3, 2)]
    expected = model(images, [{"boxes": one.boxes * 128, "labels": one.labels} for one in own])
    mean, std = (
        torch.tensor(x).view(3, 1, 1) for x in (model.transform.image_mean, model.transform.image_std)
    )
    found = detection_losses(model(torch.stack([(image - mean) / std for image in images])), packed(own))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
