"""COCO's average precision of what a detector finds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnas.detection.outputs import RawDetections
from bnas.detection.postprocess import detections
from bnas.detection.targets import unpacked
from bnas.errors import DataError, require


@dataclass(frozen=True, kw_only=True)
class AveragePrecision:
    """COCO's average precision, in percent: the mean over classes and recalls (0, .01 … 1) of the precision.

    map_percent: mean over the overlaps (IoU) .50, .55 … .95 from which on a box counts as found.
    map_50_percent, map_75_percent: at one of these overlaps.
    map_small_percent, map_medium_percent, map_large_percent: of objects below 32² pixels of the image as it is
        stored, up to 96², and above; None: there are none.
    """

    map_percent: float
    map_50_percent: float
    map_75_percent: float
    map_small_percent: float | None = None
    map_medium_percent: float | None = None
    map_large_percent: float | None = None


def average_precision(results: Iterable[tuple[RawDetections, Tensor]]) -> AveragePrecision:
    """The average precision over the images of all batches, each a detector's outputs and what
    `bnas.detection.packed` makes of the boxes that are there.

    As COCO's own evaluation has it (https://cocodataset.org/#detection-eval): the 100 boxes of an image with the
    highest scores count; classes without an object are left out; of boxes in a crowd none counts.

    Raises:
        DataError: there are no images, or no objects in them.
        MissingPackageError: faster-coco-eval is not installed.
    """
    require("faster_coco_eval", "detection")
    from faster_coco_eval import COCO, COCOeval_faster

    images: list[Mapping[str, Any]] = []
    there: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for raw, targets in results:
        for own, image in zip(detections(raw), unpacked(targets), strict=True):
            number, size = len(images), (image.width, image.height)
            images.append({"id": number, "width": image.width, "height": image.height})
            there += _entries(
                number, size, image.boxes, image.labels, area=image.areas, iscrowd=image.crowd.int()
            )
            found += _entries(number, size, own["boxes"], own["labels"], score=own["scores"])
    if not images:
        raise DataError("no images to evaluate on: the split is empty")
    classes = sorted({entry["category_id"] for entry in there if not entry["iscrowd"]})
    if not classes:
        raise DataError(f"no boxes in the {len(images)} images to evaluate on: there is nothing to be found")
    for entry in found:
        entry["area"] = entry["bbox"][2] * entry["bbox"][3]

    def dataset(entries: list[dict[str, Any]]) -> Any:
        chosen = [entry for entry in entries if entry["category_id"] in classes]
        for number, entry in enumerate(chosen, 1):  # 0 would be no box
            entry["id"] = number
        names = [{"id": label, "name": str(label)} for label in classes]
        return COCO({"images": images, "annotations": chosen, "categories": names})

    judged = COCOeval_faster(dataset(there), dataset(found), "bbox")
    judged.evaluate()
    judged.accumulate()
    precision = np.asarray(judged.eval["precision"])[
        ..., -1
    ]  # overlap, recall, class, size; -1: no such objects
    everywhere = _percent(precision[..., 0])
    assert everywhere is not None
    return AveragePrecision(
        map_percent=everywhere,
        map_50_percent=_percent(precision[0, ..., 0]) or 0.0,
        map_75_percent=_percent(precision[5, ..., 0]) or 0.0,
        map_small_percent=_percent(precision[..., 1]),
        map_medium_percent=_percent(precision[..., 2]),
        map_large_percent=_percent(precision[..., 3]),
    )


def _entries(
    image: int, size: tuple[int, int], boxes: Tensor, labels: Tensor, **more: Tensor
) -> list[dict[str, Any]]:
    """COCO's entries for the boxes of an image, in its pixels."""
    corners = boxes.double().cpu() * torch.tensor((*size, *size))
    corners[:, 2:] -= corners[:, :2]
    columns = [corners.tolist(), labels.tolist(), *(own.tolist() for own in more.values())]
    return [
        {
            "image_id": image,
            "bbox": box,
            "category_id": label,
            "iscrowd": 0,
            **dict(zip(more, rest, strict=True)),
        }
        for box, label, *rest in zip(*columns, strict=True)
    ]


def _percent(precision: np.ndarray) -> float | None:
    """The mean of what is known."""
    known = precision[precision > -1]
    return 100 * float(known.mean()) if known.size else None
