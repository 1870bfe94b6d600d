"""Do two detectors find the same boxes? So an exported detector is judged: not by its numbers, by what it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn
from torchvision.ops import box_area, box_iou

from bnas.detection import completing
from bnas.detection.postprocess import detections

CONFIDENT = 0.3  # score of the boxes that have to be found again
OVERLAP = 0.5  # IoU of two boxes that are the same, as in PASCAL VOC
ENOUGH = 20  # so many boxes say something about a network

Found = Mapping[str, Tensor]
"""What is found in an image: boxes [k, 4], scores [k], labels [k]."""


def agreeing(
    wanted: Sequence[Found], got: Sequence[Found], *, confident: float = CONFIDENT, overlap: float = OVERLAP
) -> tuple[int, int]:
    """Of how many boxes that either of two detectors finds the other finds one as well, and how many they are.

    `wanted` and `got` are what they find in each of the same images. Counted are boxes that have
    an area and a score of `confident` or more; they are found again by a box of the same class with an IoU of `overlap`
    and at least half of that score. The ratio is the F1 of the one detector by the other.
    """
    pairs = list(zip(wanted, got, strict=True))
    counts = [_found_again(*pair, confident, overlap) for own in pairs for pair in (own, own[::-1])]
    return sum(again for again, _ in counts), sum(count for _, count in counts)


def _found_again(ours: Found, theirs: Found, confident: float, overlap: float) -> tuple[int, int]:
    counted, seen = ours["scores"] >= confident, theirs["scores"] >= confident / 2
    counted = counted & (box_area(ours["boxes"]) > 0)
    boxes, labels = ours["boxes"][counted], ours["labels"][counted]
    alike = box_iou(boxes, theirs["boxes"][seen]) >= overlap
    alike &= labels[:, None] == theirs["labels"][seen]
    return int(alike.any(1).sum()), len(boxes)


def boxes_agreeing(
    detector: nn.Module, example: Tensor
) -> Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[int, int]]:
    """`agreeing` of what is decoded from two outputs, as of `RawTensors(detector)`, for images like `example`."""
    complete = completing(detector, example)
    return lambda wanted, got: agreeing(detections(complete(wanted)), detections(complete(got)))
