from __future__ import annotations

import numpy as np
import pytest
import torch

from bnas.data.box_table import BoxTable, box_table, check_sizes, starts_of
from bnas.errors import DataError

SIZES = np.array([[100, 50], [40, 40], [10, 20]])


def table() -> BoxTable:
    return box_table(
        "here",
        sizes=SIZES,
        images=np.array([2, 0, 2, 0]),
        corners=np.array([[1, 2, 3, 4], [10, 10, 20, 20], [0, 0, 10, 20], [0, 0, 50, 25]]),
        labels=np.array([5, 6, 7, 8]),
        crowd=np.array([True, False, False, False]),
        areas=np.array([np.nan, 3, 0, 1e9]),
    )


def test_boxes_are_found_by_image() -> None:
    found = table()
    assert [len(found[i]) for i in range(3)] == [2, 0, 2]
    assert (len(found), found[2].labels.tolist(), found[2].crowd.tolist()) == (3, [5, 7], [True, False])
    torch.testing.assert_close(found[2].boxes, torch.tensor([[0.1, 0.1, 0.3, 0.2], [0, 0, 1, 1]]))
    assert (found[2].areas.tolist(), found[0].areas.tolist()) == ([4, 200], [3, 1e9])
    assert (found[2].width, found[2].height, found[2].number) == (10, 20, 2)


def test_take() -> None:
    found = table().take([2, 1, 2, 0])
    assert [found[i].labels.tolist() for i in range(4)] == [[5, 7], [], [5, 7], [6, 8]]
    assert found.sizes.tolist() == [[10, 20], [40, 40], [10, 20], [100, 50]]
    assert len(table().take([])) == 0


def test_what_is_taken_out_is_not_shared() -> None:
    found = table()
    found[0].boxes.zero_()
    assert found[0].boxes.max() > 0


def test_images_without_boxes() -> None:
    empty = BoxTable.empty(SIZES)
    assert [len(empty[i]) for i in range(3)] == [0, 0, 0]
    assert empty[0].boxes.shape == (0, 4)
    assert starts_of(np.array([1, 1, 2], np.int64), 4).tolist() == [0, 0, 2, 3, 3]


def test_sizes_without_a_pixel_are_refused() -> None:
    with pytest.raises(DataError, match="here: image b is said to have 4 x 0 pixels"):
        check_sizes("here", np.array([[1, 1], [4, 0]]), ["a", "b"])
