from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bnas.data import check_images, load_data
from bnas.data.checks import check_labels
from bnas.data.splits import DataConfig
from bnas.errors import DataError


class Split(SimpleNamespace):
    """A split as anyone may write one; `batch` must not be called."""

    classes = ("cat", "dog", "owl")

    def __len__(self) -> int:
        return int(self.count)


def split(labels: Any, count: int = 4) -> Any:
    return Split(labels=labels, count=count)


def test_good_labels_pass() -> None:
    check_images(split(torch.tensor([0, 1, 2, 2])))
    data = load_data(DataConfig(train_images=50, val_images=20))
    for part in (data.train, data.val, data.test):
        check_images(part)


@pytest.mark.parametrize(
    ("wrong", "text"), [(3, "has label 3"), (-1, "has label -1"), (255, "has label 255")]
)
def test_the_first_label_that_is_no_class_is_named(wrong: int, text: str) -> None:
    with pytest.raises(DataError) as error:
        check_images(split(torch.tensor([0, 2, wrong, 99])))
    assert str(error.value) == (
        f"image 2 of the training split {text}; allowed: 0 to 2, as there are 3 classes"
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_any_integer_type_is_looked_at(dtype: torch.dtype) -> None:
    with pytest.raises(DataError, match="image 1 of the val split has label 7"):
        check_images(split(torch.tensor([0, 7], dtype=dtype)), "val")


def test_an_empty_split_is_named() -> None:
    with pytest.raises(DataError, match=r"^the training split is empty: give it images"):
        check_images(split(torch.tensor([]), count=0))
    with pytest.raises(DataError, match=r"^the test split is empty"):
        check_images(split(None, count=0), "test")


@pytest.mark.parametrize(
    "labels",
    [
        [{"boxes": 1}, {"boxes": 2}],
        (torch.tensor([9]), torch.tensor([9])),
        torch.full((2, 4), 9.0),
        torch.tensor([9.0, 9.0]),
        torch.full((2, 2), 9),
    ],
)
def test_what_is_no_vector_of_integers_is_not_judged(labels: Any) -> None:
    check_labels(labels, ("a", "b"), [0, 1])


def test_labels_that_only_the_images_know_are_left_to_the_batches() -> None:
    check_images(split([5, 6, 7]))


def test_images_are_named_by_their_place_in_the_split_not_in_the_batch() -> None:
    with pytest.raises(DataError, match="image 41 of the split has label 2; allowed: 0 to 1"):
        check_labels(torch.tensor([1, 2]), ("a", "b"), [17, 41])
