"""What a network is trained for: its loss, its metric, and how it learns from a teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional

from bnas.errors import DataError
from bnas.train.distill import soft_label_loss

AUXILIARY_WEIGHT = 0.3  # Szegedy et al. 2015, "Going deeper with convolutions", section 5


@dataclass(frozen=True, kw_only=True)
class Task:
    """Functions over a network's outputs (whatever it returns) and a batch's labels.

    loss: (outputs, labels, label smoothing) to a scalar.
    distill: (outputs, teacher's outputs, temperature) to a scalar.
    metric: (outputs, labels) of all batches of a split to one number, named `metric_name`, unit included.
    """

    name: str
    loss: Callable[[Any, Tensor, float], Tensor]
    distill: Callable[[Any, Any, float], Tensor]
    metric: Callable[[Iterable[tuple[Any, Tensor]]], float]
    metric_name: str
    higher_is_better: bool = True


def classification_loss(outputs: Any, labels: Tensor, label_smoothing: float) -> Tensor:
    """Cross entropy; auxiliary heads of GoogLeNet and Inception count 0.3 each."""
    logits, auxiliary = heads(outputs)
    loss = functional.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)
    for head in auxiliary:
        other = functional.cross_entropy(head.float(), labels, label_smoothing=label_smoothing)
        loss = loss + AUXILIARY_WEIGHT * other
    return loss


def classification_distill(outputs: Any, teacher_outputs: Any, temperature: float) -> Tensor:
    """Soft labels of the main heads; see `soft_label_loss`."""
    return soft_label_loss(heads(outputs)[0], heads(teacher_outputs)[0], temperature)


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
    ),
}
