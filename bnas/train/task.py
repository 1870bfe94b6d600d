"""What a network is trained for: its loss, its metric, and how it learns from a teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional

from bnas.errors import DataError
from bnas.train.detection_task import box_loss, map_details, map_percent

AUXILIARY_WEIGHT = 0.3  # Szegedy et al. 2015, "Going deeper with convolutions", section 5


@dataclass(frozen=True, kw_only=True)
class Task:
    """Functions over a network's outputs (whatever it returns) and a batch's labels.

    loss: (outputs, labels, label smoothing) to a scalar. Labels are whatever the metric reads, or of the
        kind that mixing images makes of them.
    distill: (outputs, teacher's outputs, divergence of two tensors of logits) to a scalar. None: a teacher's outputs
        are not learnt from.
    metric: (outputs, labels) of all batches of a split to one number, named `metric_name`, unit included.
    metric_label: what people call it; "": as it is named.
    details: (outputs, labels) of all batches to the metric and further numbers by name. None: there are no others.
    counts_images: the metric is a percentage of the images, whose standard error is that of a binomial share.
    class_labels: labels are classes: they can be smoothed and mixed.
    evaluation_batch: images that are evaluated at a time.
    requires: the module that the metric is computed with, and the extra of bnas that installs it.
    """

    name: str
    loss: Callable[[Any, Tensor, float], Tensor]
    distill: Callable[[Any, Any, Callable[[Tensor, Tensor], Tensor]], Tensor] | None
    metric: Callable[[Iterable[tuple[Any, Tensor]]], float]
    metric_name: str
    metric_label: str = ""
    details: Callable[[Iterable[tuple[Any, Tensor]]], Mapping[str, float]] | None = None
    higher_is_better: bool = True
    counts_images: bool = True
    class_labels: bool = True
    evaluation_batch: int = 250
    requires: tuple[str, str] | None = None

    @property
    def label(self) -> str:
        """What people call the metric."""
        return self.metric_label or self.metric_name


def classification_loss(outputs: Any, labels: Tensor, label_smoothing: float) -> Tensor:
    """Cross entropy; auxiliary heads of GoogLeNet and Inception count 0.3 each.

    Labels are class indices, int64 [n], or probabilities of the classes, float [n, classes], which sum to 1.

    Raises:
        DataError: a label is not one of the network's classes (on a GPU, torch's own error comes instead).
    """
    logits, auxiliary = heads(outputs)
    loss = _cross_entropy(logits, labels, label_smoothing)
    for head in auxiliary:
        loss = loss + AUXILIARY_WEIGHT * _cross_entropy(head, labels, label_smoothing)
    return loss


def _cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    try:
        return functional.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)
    except (IndexError, RuntimeError, ValueError):
        check_labels(labels, logits.shape[-1])
        raise


def check_labels(labels: Tensor, classes: int) -> None:
    """Check that labels, indices [n] or probabilities [n, classes], are of so many classes.

    Raises:
        DataError: one is not.
    """
    if labels.dim() == 3:
        raise DataError("labels: these are boxes; a detector learns from them, with task: detection")
    if labels.dim() == 2 and labels.shape[1] != classes:
        raise DataError(
            f"labels: {labels.shape[1]} probabilities for each image, the network has {classes} classes"
        )
    if labels.dim() == 1:
        wrong = ((labels < 0) | (labels >= classes)).nonzero().flatten()
        if len(wrong):
            first = int(wrong[0])
            raise DataError(
                f"labels: {int(labels[first])} of image {first} of the batch is not one of the network's classes, "
                f"0 to {classes - 1}"
            )


def classification_distill(
    outputs: Any, teacher_outputs: Any, divergence: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """The divergence of the main heads."""
    return divergence(heads(outputs)[0], heads(teacher_outputs)[0])


def top1_percent(results: Iterable[tuple[Any, Tensor]]) -> float:
    """Images whose largest logit is that of their label, in percent."""
    correct = total = 0
    for outputs, labels in results:
        correct += int((heads(outputs)[0].argmax(dim=1) == labels).sum())
        total += len(labels)
    if total == 0:
        raise DataError("no images to evaluate on: the split is empty")
    return 100 * correct / total


def heads(outputs: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Main logits [batch, classes] and those of auxiliary heads, which some networks have in training."""
    if isinstance(outputs, Tensor):
        return outputs, ()
    main, *auxiliary = outputs
    return main, tuple(head for head in auxiliary if head is not None)


TASKS: dict[str, Task] = {
    "classification": Task(
        name="classification",
        loss=classification_loss,
        distill=classification_distill,
        metric=top1_percent,
        metric_name="top1_percent",
        metric_label="top-1",
    ),
    "detection": Task(
        name="detection",
        loss=box_loss,
        distill=None,
        metric=map_percent,
        metric_name="map_percent",
        metric_label="mAP",
        details=map_details,
        counts_images=False,
        class_labels=False,
        evaluation_batch=16,
        requires=("faster_coco_eval", "detection"),
    ),
}
