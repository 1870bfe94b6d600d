"""Learning from a teacher's outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bnas.data import Images, batches
from bnas.train.norms import device_of
from bnas.train.precision import Precision, autocast

MOST_CACHED = 64_000_000  # numbers, 256 MB


def soft_label_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Mean over the batch of T² KL(softmax(teacher / T) || softmax(logits / T)), in nats.

    Hinton, Vinyals & Dean 2015, "Distilling the knowledge in a neural network", section 2; the factor T²
    keeps the gradient's size when T changes. Logits are [batch, classes]; the result is a scalar, 0 when
    both say the same.
    """
    log_student = functional.log_softmax(logits.float() / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher_logits.float() / temperature, dim=1)
    divergence = functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2


class SoftLabelled:
    """A split of images with the teacher's logits beside each label: labels are float32 [n, 1 + classes].

    The teacher runs once over the images, not once per epoch; so only for images that are not augmented.
    """

    def __init__(self, images: Images, teacher: nn.Module, precision: Precision) -> None:
        self.images = images
        self.classes, self.shape = images.classes, images.shape
        device = device_of(teacher)
        with torch.no_grad(), autocast(precision, device):
            logits = [teacher(x.to(device)).float().cpu() for x, _ in batches(images, 250)]
        self.logits = torch.cat(logits)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int], *, augment: int | None = None) -> tuple[Tensor, Tensor]:
        """Images [n, C, H, W], and the label and logits of each [n, 1 + classes]."""
        x, labels = self.images.batch(indices)
        return x, torch.cat([labels[:, None].float(), self.logits[list(indices)]], dim=1)


def can_be_cached(images: Images, augmented: bool) -> bool:
    """Whether the teacher's logits for all images can be kept, and stay right."""
    return not augmented and len(images) * len(images.classes) <= MOST_CACHED
