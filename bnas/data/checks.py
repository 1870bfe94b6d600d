"""What is checked of a split before and while it is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bnas.errors import DataError

if TYPE_CHECKING:
    from bnas.data.splits import Images


def check_images(images: Images, split: str = "training") -> None:
    """Check that the split is not empty and, where `images.labels` holds its labels, that all are classes.

    Labels that are known only when their images are read are checked then, by `batches`.

    Raises:
        DataError: the split is empty, or a label is no class; `split` is what the text calls it.
    """
    if len(images) == 0:
        raise DataError(
            f"the {split} split is empty: give it images, or ask for more of them (data.*_images)"
        )
    labels = getattr(images, "labels", None)
    if isinstance(labels, Tensor):
        check_labels(labels, images.classes, range(len(labels)), split)


def check_labels(labels: Any, classes: Sequence[str], indices: Sequence[int], split: str = "") -> None:
    """Check that integer `labels` [n] of the images with `indices` are 0 to len(classes) - 1.

    Anything but a vector of integers (boxes, a teacher's soft labels) is left to those who made it.

    Raises:
        DataError: a label is out of range; names the image, its label and what is allowed.
    """
    if not isinstance(labels, Tensor) or labels.dim() != 1 or labels.is_floating_point():
        return
    wrong = (labels < 0) | (labels >= len(classes))
    if wrong.any():
        place = int(wrong.nonzero()[0])
        name = f"{split} split" if split else "split"
        raise DataError(
            f"image {indices[place]} of the {name} has label {int(labels[place])}; "
            f"allowed: 0 to {len(classes) - 1}, as there are {len(classes)} classes"
        )
