from __future__ import annotations

import contextlib
import io
import math
from dataclasses import replace

import pytest
import torch
from tiny_detector import some_boxes
from torch import Tensor

from bnas.detection import Boxes, Decoding, RawDetections, packed
from bnas.detection.coco import AveragePrecision, average_precision
from bnas.detection.postprocess import detections
from bnas.errors import DataError

DECODING = Decoding(scores="sigmoid", weights=(1, 1, 1, 1), nms_threshold=0.99)
Found = tuple[list[float], int, float]  # a box as fractions, its class and its score


def raw(images: list[list[Found]], classes: int = 4) -> RawDetections:
    """Outputs in which each anchor is a box that is found."""
    most = max(1, *map(len, images))
    anchors, logits = (
        torch.zeros(len(images) * most, 4),
        torch.full((len(images), len(images) * most, classes), -20.0),
    )
    anchors[:, 2:] = 0.5
    for number, image in enumerate(images):
        for place, (box, label, score) in enumerate(image, number * most):
            anchors[place] = torch.tensor(box)
            logits[number, place, label] = math.log(score / (1 - score))
    boxes = torch.zeros(len(images), len(anchors), 4)
    return RawDetections(logits, boxes, anchors, (len(anchors),), DECODING)


def by_pycocotools(results: list[tuple[RawDetections, list[Boxes]]]) -> list[float]:
    """The twelve numbers that COCO's own evaluation prints; its input is made here, from pixels."""
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    images, there, found = [], [], []
    for raw_, own in results:
        for image, made in zip(own, detections(raw_), strict=True):
            number = len(images) + 1
            images.append({"id": number, "width": image.width, "height": image.height})
            size = torch.tensor([image.width, image.height] * 2)

            def bbox(box: Tensor, size: Tensor = size) -> list[float]:
                x1, y1, x2, y2 = (box * size).tolist()
                return [x1, y1, x2 - x1, y2 - y1]

            for box, label, crowd, area in zip(
                image.boxes, image.labels, image.crowd, image.areas, strict=True
            ):
                there.append(
                    {
                        "id": len(there) + 1, "image_id": number, "bbox": bbox(box), "category_id": int(label) + 1,
                        "iscrowd": int(crowd), "area": float(area),
                    }
                )  # fmt: skip
            for box, label, score in zip(made["boxes"], made["labels"], made["scores"], strict=True):
                found.append(
                    {
                        "image_id": number,
                        "bbox": bbox(box),
                        "category_id": int(label) + 1,
                        "score": float(score),
                    }
                )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "images": images, "annotations": there, "categories": [{"id": x, "name": str(x)} for x in range(1, 9)]
        }  # fmt: skip
        truth.createIndex()
        judged = evaluation.COCOeval(truth, truth.loadRes(found), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return list(judged.stats)


def numbers(found: AveragePrecision) -> list[float]:
    """As COCO lists them, -1 for None."""
    own = (
        found.map_percent, found.map_50_percent, found.map_75_percent, found.map_small_percent,
        found.map_medium_percent, found.map_large_percent,
    )  # fmt: skip
    return [-1.0 if x is None else x / 100 for x in own]


def scene(
    seed: int, *, size: tuple[int, int] = (400, 300), crowds: bool = False
) -> tuple[Boxes, list[Found]]:
    """Some objects, most of them found about where they are, some twice or as another class, and some that are not."""
    rng = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=rng).item()

    boxes, labels, crowd, found = [], [], [], []
    for _ in range(int(uniform(2, 7))):
        x, y, w, h = uniform(0, 0.6), uniform(0, 0.6), uniform(0.03, 0.4), uniform(0.03, 0.4)
        label = int(uniform(0, 3))
        boxes.append([x, y, x + w, y + h])
        labels.append(label)
        crowd.append(crowds and uniform(0, 1) < 0.3)
        for _ in range(int(uniform(0, 3))):
            box = [
                min(max(edge + uniform(-0.1, 0.1) * side, 0), 1)
                for edge, side in zip(boxes[-1], (w, h, w, h), strict=True)
            ]
            found.append((box, label if uniform(0, 1) < 0.8 else int(uniform(0, 4)), uniform(0.1, 0.99)))
    found.append(([0.1, 0.1, 0.3, 0.4], int(uniform(0, 4)), uniform(0.1, 0.99)))
    return some_boxes(boxes, labels, crowd=crowd, size=size), found


@pytest.mark.parametrize("crowds", [False, True])
def test_as_pycocotools_judges(crowds: bool) -> None:
    results = []
    for batch in range(4):
        scenes = [scene(10 * batch + n, size=(400 + 40 * n, 300 + batch), crowds=crowds) for n in range(5)]
        results.append((raw([found for _, found in scenes]), [own for own, _ in scenes]))
    found = average_precision((raw_, packed(images)) for raw_, images in results)
    expected = by_pycocotools(results)
    assert numbers(found) == pytest.approx(expected[:6], abs=1e-6)
    assert 5 < found.map_percent < 90
    assert found.map_percent < found.map_50_percent


def test_sizes_are_those_of_the_stored_image() -> None:
    """A quarter of the image is small in an image of 40 pixels, and large in one of 400, whose area the data tell."""
    box = [0.0, 0.0, 0.5, 0.5]
    small, large = (some_boxes([box], [0], size=(side, side)) for side in (40, 400))
    found = average_precision([(raw([[(box, 0, 0.9)]] * 2), packed([small, large]))])
    assert numbers(found) == pytest.approx([1, 1, 1, 1, -1, 1])
    told = replace(small, areas=torch.tensor([2000.0]))  # as of a mask
    assert numbers(average_precision([(raw([[(box, 0, 0.9)]]), packed([told]))])) == pytest.approx(
        [1, 1, 1, -1, 1, -1]
    )


def test_by_hand() -> None:
    """Two objects: the surer box is wrong, the next one right. Precision 1/2 up to recall 1/2, of 101 recalls 51."""
    boxes = [[0.0, 0.0, 0.3, 0.3], [0.6, 0.6, 0.9, 0.9]]
    found: list[Found] = [([0.3, 0.5, 0.5, 0.7], 0, 0.9), (boxes[0], 0, 0.8)]
    judged = average_precision([(raw([found]), packed([some_boxes(boxes, [0, 0])]))])
    assert judged.map_percent == pytest.approx(100 * 0.5 * 51 / 101)
    # an IoU of 2/3 counts at .50, .55, .60 and .65: 4 of 10 overlaps
    shifted = [([0.0, 0.06, 0.3, 0.36], 0, 0.9)]
    judged = average_precision([(raw([shifted]), packed([some_boxes(boxes[:1], [0])]))])
    assert (judged.map_percent, judged.map_50_percent, judged.map_75_percent) == pytest.approx((40, 100, 0))


def test_classes_without_an_object_are_left_out() -> None:
    box = [0.0, 0.0, 0.5, 0.5]
    found: list[Found] = [(box, 0, 0.9), ([0.5, 0.5, 1.0, 1.0], 3, 0.99)]
    assert average_precision([(raw([found]), packed([some_boxes([box], [0])]))]).map_percent == pytest.approx(
        100
    )


def test_nothing_found_and_nothing_there(capsys: pytest.CaptureFixture[str]) -> None:
    there, empty = some_boxes([[0.0, 0.0, 0.5, 0.5]], [0]), some_boxes([], [])
    assert average_precision([(raw([[], []]), packed([there, empty]))]).map_percent == 0
    crowd = some_boxes([[0.0, 0.0, 0.5, 0.5]], [0], crowd=[True])
    with pytest.raises(DataError, match="no boxes in the 2 images"):
        average_precision([(raw([[], []]), packed([empty, crowd]))])
    with pytest.raises(DataError, match="no images to evaluate on"):
        average_precision([])
    assert capsys.readouterr().out == ""
