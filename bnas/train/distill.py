"""Learning from a teacher's outputs."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


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
