from __future__ import annotations

import pytest
import torch
from tiny_detector import some_boxes

from bnas.detection import packed, unpacked
from bnas.errors import DataError


def test_packed_boxes_come_back() -> None:
    images = [
        some_boxes(
            [[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 1.0, 0.5]],
            [3, 0],
            crowd=[False, True],
            size=(640, 480),
            number=7,
        ),
        some_boxes([], [], size=(4000, 3000), number=16_000_000),
        some_boxes([[0.5, 0.5, 0.75, 1.0]], [263], size=(3, 2)),
    ]
    found = unpacked(packed(images))
    assert packed(images).shape == (3, 3, 7)
    for ours, theirs in zip(found, images, strict=True):
        for name in ("boxes", "labels", "crowd", "areas"):
            own, expected = getattr(ours, name), getattr(theirs, name)
            assert own.dtype == expected.dtype
            assert torch.equal(own, expected)
        assert (ours.width, ours.height, ours.number) == (theirs.width, theirs.height, theirs.number)
    assert [len(own) for own in found] == [2, 0, 1]


def test_parts_of_a_batch_are_batches() -> None:
    """As a step cuts its batch in parts and processes cut it in shares."""
    images = [some_boxes([[0.1, 0.1, 0.2 + 0.1 * n, 0.3]] * n, [n] * n) for n in range(5)]
    parts = packed(images).tensor_split(3)
    assert [len(own) for part in parts for own in unpacked(part)] == [0, 1, 2, 3, 4]


def test_no_images() -> None:
    assert packed([]).shape == (0, 1, 7)
    assert unpacked(packed([])) == []


@pytest.mark.parametrize(
    "labels", [torch.tensor([1, 2, 3]), torch.zeros(2, 5), torch.zeros(2, 3, 7), torch.zeros(2, 3, 6)]
)
def test_other_labels_are_refused(labels: torch.Tensor) -> None:
    with pytest.raises(
        DataError, match=r"expected what bnas.detection.packed makes.*detectors need images with boxes"
    ):
        unpacked(labels)
