"""What is checked of a split before and while it is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bnas.detection.targets import COLUMNS
from bnas.errors import DataError

if TYPE_CHECKING:
    from bnas.data.splits import Images

_LABEL = 4  # the column of a box's class


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
    """Check that `labels` of the images with `indices` are 0 to len(classes) - 1.

    They are integers [n], or boxes as `bnas.detection.packed` makes them; anything else (a teacher's soft
    labels) is left to those who made it.

    Raises:
        DataError: a label is out of range; names the image, its label and what is allowed.
    """
    if not isinstance(labels, Tensor):
        return
    if labels.dim() == 3 and labels.shape[2] == COLUMNS:
        labels = labels[:, :, _LABEL].amax(
            1
        )  # what is no box has a label below 0, also an image without boxes
        wrong = labels >= len(classes)
    elif labels.dim() == 1 and not labels.is_floating_point():
        wrong = (labels < 0) | (labels >= len(classes))
    else:
        return
    if wrong.any():
        place = int(wrong.nonzero()[0])
        name = f"{split} split" if split else "split"
        raise DataError(
            f"image {indices[place]} of the {name} has label {int(labels[place])}; "
            f"allowed: 0 to {len(classes) - 1}, as there are {len(classes)} classes"
        )
