"""The boxes that a detector finds: its outputs decoded, and of boxes upon each other the most likely."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, nms

from bnas.detection.coding import decoded
from bnas.detection.outputs import Decoding, RawDetections, RawTensors, completing


def detections(raw: RawDetections) -> list[dict[str, Tensor]]:
    """What is found in each image: `boxes` float32 [k, 4], x1, y1, x2, y2 as fractions of its width and height,
    `scores` float32 [k], descending, and `labels` int64 [k], indices of the data's classes.

    As torchvision's RetinaNet does it ("sigmoid": the most likely pairs of anchor and class of each level), or its
    SSD ("softmax": the most likely anchors of each class); then non-maximum suppression within each class.

    For images of a fixed size and number it can be traced: no path through it depends on the numbers.
    """
    decoding = raw.decoding
    logits, boxes = raw.logits.float(), decoded(raw.boxes.float(), raw.anchors.float(), decoding.weights)
    if decoding.scores == "softmax":
        scores = logits.softmax(-1)[..., 1:]
        chosen = [_best_of_classes(own, decoding.candidates) for own in scores]
    else:
        chosen = [_best_of_levels(own, raw.levels, decoding.candidates) for own in logits.sigmoid()]
    classes = int(raw.logits.shape[-1])
    return [
        _suppressed(own[anchors], scores, labels, classes, decoding)
        for own, (scores, anchors, labels) in zip(boxes.clamp(0, 1), chosen, strict=True)
    ]


class WithNms(nn.Module):
    """A detector with all that follows: an image [1, C, H, W] to what `detections` finds in it: boxes [k, 4] as
    fractions, scores [k] and labels [k].

    It can be exported for images of the size of `example` [n, C, H, W], whose anchors are kept as constants:
    with `torch.export.export`, `torch.onnx.export(..., dynamo=False)`, and `torch.jit.trace` followed by
    `openvino.convert_model`. k differs from image to image and may be 0.
    """

    def __init__(self, detector: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.raw = RawTensors(detector)
        self._complete = completing(detector, example[:1])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = detections(self._complete(self.raw(image)))[0]
        return found["boxes"], found["scores"], found["labels"]


# Of the scores [anchors, classes] of an image: the best ones, descending, and the anchors and classes they are of.


def _best_of_levels(scores: Tensor, levels: tuple[int, ...], most: int) -> tuple[Tensor, Tensor, Tensor]:
    classes, first, found = int(scores.shape[1]), 0, []
    for count in levels:
        best, places = scores[first : first + count].flatten().topk(min(most, count * classes))
        found.append((best, places.div(classes, rounding_mode="floor") + first, places % classes))
        first += count
    best, anchors, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    return best, anchors, labels


def _best_of_classes(scores: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    best, anchors = scores.T.topk(min(most, int(scores.shape[0])))
    labels = torch.arange(int(scores.shape[1]), device=scores.device)[:, None].expand_as(anchors)
    return best.flatten(), anchors.flatten(), labels.flatten()


def _suppressed(
    boxes: Tensor, scores: Tensor, labels: Tensor, classes: int, decoding: Decoding
) -> dict[str, Tensor]:
    # the best one goes on in any case: not every runtime can suppress among no boxes
    able = (scores > decoding.score_threshold) | (scores >= scores.max())
    boxes, scores, labels = boxes[able], scores[able], labels[able]
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if tracing or torch.compiler.is_compiling():  # as one operation; class by class is quicker
        kept = nms(_apart(boxes, labels, classes), scores, decoding.nms_threshold)
    else:
        kept = batched_nms(boxes.double(), scores.double(), labels, decoding.nms_threshold)
    kept = kept[: decoding.most_boxes]
    kept = kept[scores[kept] > decoding.score_threshold]
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


def _apart(boxes: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The boxes, which lie in a unit square, of each class in a square of its own, so that classes do not overlap.

    The squares form a square, not a row: the smaller the numbers, the more of a float's digits are the box's.
    """
    side = math.ceil(math.sqrt(classes))
    square = torch.stack([labels % side, labels.div(side, rounding_mode="floor")], 1)
    return boxes + square.repeat(1, 2)
