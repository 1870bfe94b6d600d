"""What a detector's outputs are worth beside the boxes that are there: the losses of RetinaNet and of SSD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection._utils import Matcher, SSDMatcher
from torchvision.ops import box_iou, sigmoid_focal_loss

from bnas.detection.coding import encoded
from bnas.detection.outputs import RawDetections
from bnas.detection.targets import Boxes, unpacked
from bnas.errors import DataError

_BACKGROUND, _IGNORED = -1, -2  # in place of an anchor's class; torchvision's matchers have the same numbers
_IN_CROWD = 0.5  # the share of an anchor (of what of it lies in the image) from which on it lies in a crowd
_DIGITS = 1e5
_NEGATIVES = 3  # anchors of the background for each of an object, in SSD's loss


def detection_losses(raw: RawDetections, targets: Tensor) -> dict[str, Tensor]:
    """The losses "classification" and "bbox_regression", scalars, which are summed; as torchvision's models have them.

    "sigmoid" (Lin et al. 2018, "Focal loss for dense object detection", section 4.1): focal loss and L1, divided by
    each image's anchors of objects; an anchor is of the object that it overlaps most, with an IoU of 0.5 or more,
    each object also has those that overlap it most, and those between 0.4 and 0.5 do not count.
    "softmax" (Liu et al. 2016, "SSD: Single shot multibox detector", section 2.2): cross entropy and smooth L1,
    divided by the batch's anchors of objects; of the background only the three times as many with the highest loss.

    Anchors of the background that lie by half or more in a crowd do not count. An object that overlaps no anchor
    is not learnt.

    Args:
        targets: what `bnas.detection.packed` makes for the images.

    Raises:
        DataError: they are no such targets, of other images, or a label is no class of the detector.
    """
    images = unpacked(targets)
    _check(raw, images)
    anchors, logits = raw.anchors.float(), raw.logits.float()
    with torch.no_grad():
        pairs = [_matched(anchors, image, softmax=raw.decoding.scores == "softmax") for image in images]
        labels, boxes = (torch.stack(parts) for parts in zip(*pairs, strict=True))
        places = (labels >= 0).nonzero(as_tuple=True)  # of images, of anchors
        wanted = encoded(boxes[places], anchors[places[1]], raw.decoding.weights)
    found = raw.boxes.float()[places]
    loss = _ssd if raw.decoding.scores == "softmax" else _retinanet
    return loss(logits, labels, places, found, wanted)


def _check(raw: RawDetections, images: Sequence[Boxes]) -> None:
    if len(images) != len(raw.logits):
        raise DataError(f"boxes: of {len(images)} images, the detector was given {len(raw.logits)}")
    classes = raw.logits.shape[-1] - (raw.decoding.scores == "softmax")
    highest = max((int(image.labels.max()) for image in images if len(image)), default=0)
    if highest >= classes:
        raise DataError(
            f"boxes: label {highest} is not one of the detector's classes, 0 to {classes - 1}; make the model with as "
            "many classes as the data have"
        )


def _matched(anchors: Tensor, image: Boxes, *, softmax: bool) -> tuple[Tensor, Tensor]:
    """Of each anchor its class, _BACKGROUND or _IGNORED, int64 [anchors], and its box [anchors, 4], if any."""
    # rounded, so that equal overlaps are equal also as fractions: of all that are best each is the object's
    overlaps = box_iou(image.boxes, anchors).mul(_DIGITS).round().div(_DIGITS)
    # one that overlaps none would count as best overlapped by all that do not overlap it
    able = ~image.crowd & (overlaps.amax(1) > 0)
    boxes, classes = image.boxes[able], image.labels[able]
    labels = torch.full((len(anchors),), _BACKGROUND, device=anchors.device)
    own = anchors
    if len(boxes):
        matcher = SSDMatcher(0.5) if softmax else Matcher(0.5, 0.4, allow_low_quality_matches=True)
        matches = matcher(overlaps[able])
        first = matches.clamp(min=0)
        labels, own = torch.where(matches >= 0, classes[first], matches), boxes[first]
    if image.crowd.any():
        crowded = _covered(anchors.clamp(0, 1), image.boxes[image.crowd]) >= _IN_CROWD
        labels = labels.masked_fill(crowded & (labels == _BACKGROUND), _IGNORED)
    return labels, own


def _covered(anchors: Tensor, boxes: Tensor) -> Tensor:
    """The share of each anchor that lies in the box that covers most of it, [anchors]."""
    low = torch.maximum(anchors[:, None, :2], boxes[:, :2])
    high = torch.minimum(anchors[:, None, 2:], boxes[:, 2:])
    area = (anchors[:, 2:] - anchors[:, :2]).prod(1)
    return (high - low).clamp(min=0).prod(2).amax(1) / area


# Of logits [n, anchors, outputs] and labels [n, anchors]; and, for the anchors of objects at `places` in them, of the
# regressions found [m, 4] and wanted [m, 4].


def _retinanet(
    logits: Tensor, labels: Tensor, places: tuple[Tensor, ...], found: Tensor, wanted: Tensor
) -> dict[str, Tensor]:
    there = torch.zeros_like(logits)
    there[(*places, labels[places])] = 1
    counts = (labels >= 0).sum(1).clamp(min=1)
    focal = sigmoid_focal_loss(logits, there, reduction="none").sum(2).masked_fill(labels == _IGNORED, 0)
    distances = (found - wanted).abs().sum(1)
    return {
        "classification": (focal.sum(1) / counts).mean(),
        "bbox_regression": (distances / counts[places[0]]).sum() / len(labels),
    }


def _ssd(
    logits: Tensor, labels: Tensor, places: tuple[Tensor, ...], found: Tensor, wanted: Tensor
) -> dict[str, Tensor]:
    entropy = functional.cross_entropy(logits.transpose(1, 2), (labels + 1).clamp(min=0), reduction="none")
    background = labels == _BACKGROUND
    hardest = (
        entropy.detach().masked_fill(~background, -torch.inf).argsort(dim=1, descending=True, stable=True)
    )
    rank = hardest.argsort(1)
    learnt = (labels >= 0) | (background & (rank < _NEGATIVES * (labels >= 0).sum(1, keepdim=True)))
    count = max(1, len(found))
    return {
        "classification": entropy[learnt].sum() / count,
        "bbox_regression": functional.smooth_l1_loss(found, wanted, reduction="sum") / count,
    }
