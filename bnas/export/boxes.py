"""Do two detectors find the same boxes? So an exported detector is judged: not by its numbers, by what it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import box_area, box_iou

from bnas.detection import completing
from bnas.detection.postprocess import detections

CONFIDENT = (0.3, 0.2, 0.1)  # scores of the boxes that have to be found again: the first with `ENOUGH` boxes
ENOUGH = 20  # so many boxes say something about a network
OVERLAP = 0.5  # IoU of two boxes that are the same, as in PASCAL VOC

Found = Mapping[str, Tensor]
"""What is found in an image: boxes [k, 4], scores [k], labels [k]."""


def agreement(wanted: Sequence[Found], got: Sequence[Found]) -> tuple[int, int, float]:
    """`agreeing`, and the score from which it counts: the first of `CONFIDENT` with `ENOUGH` boxes, else the last."""
    for confident in CONFIDENT:
        again, count = agreeing(wanted, got, confident=confident)
        if count >= ENOUGH:
            break
    return again, count, confident


def agreeing(
    wanted: Sequence[Found],
    got: Sequence[Found],
    *,
    confident: float = CONFIDENT[0],
    overlap: float = OVERLAP,
) -> tuple[int, int]:
    """Of how many boxes that either of two detectors finds the other finds one as well, and how many they are.

    `wanted` and `got` are what they find in each of the same images. Counted are boxes that have an area and a score
    of `confident` or more. Each, the surest first, is found again by the box of the same class that it overlaps most,
    with an IoU of `overlap` and half of `confident` as score at least, which then is no other's. The ratio is the F1
    of the one detector by the other.
    """
    pairs = list(zip(wanted, got, strict=True))
    counts = [_found_again(*pair, confident, overlap) for own in pairs for pair in (own, own[::-1])]
    return sum(again for again, _ in counts), sum(count for _, count in counts)


def _found_again(ours: Found, theirs: Found, confident: float, overlap: float) -> tuple[int, int]:
    counted, seen = ours["scores"] >= confident, theirs["scores"] >= confident / 2
    counted = counted & (box_area(ours["boxes"]) > 0)
    scores, boxes, labels = (ours[name][counted] for name in ("scores", "boxes", "labels"))
    same = labels[:, None] == theirs["labels"][seen]
    overlaps = torch.where(same, box_iou(boxes, theirs["boxes"][seen]), 0)
    again = 0
    rows = overlaps[scores.argsort(descending=True)].numpy()
    for row in rows if rows.size else ():
        most = int(row.argmax())
        if row[most] >= overlap:
            rows[:, most] = 0
            again += 1
    return again, len(boxes)


def boxes_in(detector: nn.Module, example: Tensor) -> Callable[[Sequence[Tensor]], Sequence[Found]]:
    """A function from outputs, as of `RawTensors(detector)` for images like `example`, to what is found in each."""
    complete = completing(detector, example)
    return lambda outputs: detections(complete(outputs))
