"""Learning from a teacher: distances from its outputs and its inner maps, and its outputs kept for a data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from bnas.data import Images, batches
from bnas.errors import ConfigError
from bnas.train.norms import device_of
from bnas.train.precision import Precision, autocast

if TYPE_CHECKING:
    from bnas.train.config import DistillConfig

MOST_CACHED = 64_000_000  # numbers, 256 MB
_LIMIT = 1e-3  # so close to 0 or 1, alpha takes the limit of its divergence


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


def alpha_divergence(
    logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    *,
    alpha_min: float = -1.0,
    alpha_max: float = 1.0,
    clip: float = 5.0,
) -> Tensor:
    """Mean over the batch of T² max(D[alpha_min], D[alpha_max]), the larger of the two for each image.

    Wang et al. 2021, "AlphaNet: Improved training of supernets with alpha-divergence", eq. 5-7 and section 4.
    Of the teacher's probabilities p and the network's q, both at temperature T,

        D[a] = sum q ((p / q)^a - 1) / (a (a - 1)),

    whose limits are KL(p || q) at a = 1 and KL(q || p) at a = 0. A negative alpha punishes probability where
    the teacher has next to none, in a network less sure than its teacher; a positive one the opposite. The
    importance weights (p / q)^a are clipped to at most `clip` (not in the limits, whose gradients are tame),
    in the value and in the gradient, which is that of

        - sum q (p / q)^a / a  d log q,

    the exact one of D[a] where nothing is clipped. Logits are [batch, classes]; the result is a scalar,
    0 when both say the same.
    """
    log_q = functional.log_softmax(logits.float() / temperature, dim=1)
    log_p = functional.log_softmax(teacher_logits.detach().float() / temperature, dim=1)
    low, high = (_alpha_terms(log_p, log_q.detach(), alpha, clip) for alpha in (alpha_min, alpha_max))
    larger = low[0] > high[0]
    value = torch.where(larger, low[0], high[0])
    weights = torch.where(larger[:, None], low[1], high[1])
    # Its value is that of the divergence, its gradient that of the clipped weights.
    pull = -(weights * log_q).sum(dim=1)
    return (value + pull - pull.detach()).mean() * temperature**2


def _alpha_terms(log_p: Tensor, log_q: Tensor, alpha: float, clip: float) -> tuple[Tensor, Tensor]:
    """D[alpha] of each image [batch], and w [batch, classes] such that its gradient is -sum w d log q."""
    log_ratio, q = log_p - log_q, log_q.exp()
    if abs(alpha) < _LIMIT:
        return -(q * log_ratio).sum(dim=1), q * (log_ratio - 1)
    if abs(alpha - 1) < _LIMIT:
        p = log_p.exp()
        return (p * log_ratio).sum(dim=1), p
    powers = (alpha * log_ratio).clamp(max=math.log(clip)).exp()
    return (q * (powers - 1)).sum(dim=1) / (alpha * (alpha - 1)), q * powers / alpha


# (logits, teacher's logits, temperature) to a scalar
DIVERGENCES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "kl": soft_label_loss,
    "alpha": alpha_divergence,
}


def relative_error(own: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two tensors of one shape, divided by the mean square of the teacher's.

    Relative, so that one weight suits maps of any scale: 1 is the error of an output that is all zeros.

    Raises:
        ConfigError: their shapes differ.
    """
    if own.shape != teacher.shape:
        raise ConfigError(
            f"loss: 'mse' needs outputs of equal shape, got {list(own.shape)} of the network and "
            f"{list(teacher.shape)} of the teacher; use 'attention', which compares where they are strong"
        )
    own, teacher = own.float(), teacher.float()
    scale = teacher.square().mean().clamp_min(torch.finfo(torch.float32).tiny)
    return functional.mse_loss(own, teacher) / scale


def attention_transfer(own: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of two attention maps, mean over the batch: from 0, for equal ones, to 2.

    Zagoruyko & Komodakis 2017, "Paying more attention to attention", section 3.1: the map of an image is the
    mean of the channels' squares at each position, divided by its L2 norm over all positions. So number and
    order of the channels may differ, and any factor of the whole map.

    Tensors are [batch, channels, *positions] or, with three axes, [batch, tokens, channels]. Where the
    network ran on images of another size than the teacher, the larger map is averaged down to the smaller.

    Raises:
        ConfigError: the outputs have no positions, or differ in their number of axes, images or tokens.
    """
    maps = _positions(own), _positions(teacher)
    if maps[0].shape != maps[1].shape:
        able = own.dim() == teacher.dim() > 3 and len(own) == len(teacher)
        if not able:
            raise ConfigError(
                "loss: 'attention' needs outputs with the same positions, "
                f"got {list(own.shape)} of the network and {list(teacher.shape)} of the teacher"
            )
        size = tuple(min(sizes) for sizes in zip(own.shape[2:], teacher.shape[2:], strict=True))
        pool = functional.adaptive_avg_pool2d if len(size) == 2 else functional.adaptive_avg_pool3d
        maps = pool(maps[0], size), pool(maps[1], size)  # type: ignore[arg-type]
    flat = [functional.normalize(own.flatten(1), dim=1) for own in maps]
    return (flat[0] - flat[1]).square().sum(dim=1).mean()


def _positions(output: Tensor) -> Tensor:
    """Mean of the channels' squares at each position, [batch, *positions]."""
    if not 3 <= output.dim() <= 5:
        raise ConfigError(
            "loss: 'attention' needs outputs [batch, channels, *positions] or [batch, tokens, channels], "
            f"got {list(output.shape)}"
        )
    return output.float().square().mean(dim=2 if output.dim() == 3 else 1)


# (output of a module, teacher's output of the same) to a scalar
FEATURE_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": relative_error,
    "attention": attention_transfer,
}


class SoftLabelled:
    """A split of images with the teacher's logits beside each label: labels are float32 [n, 1 + classes].

    The teacher runs once over the images, not once per epoch; so only for images that always look the same.
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

    def batch(
        self, indices: Sequence[int], *, augment: int | None = None, first: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Images [n, C, H, W], and the label and logits of each [n, 1 + classes]."""
        x, labels = self.images.batch(indices)
        return x, torch.cat([labels[:, None].float(), self.logits[list(indices)]], dim=1)


def can_be_cached(images: Images, config: DistillConfig) -> bool:
    """Whether the teacher's logits for all images can be kept, stay right, and are all that is learnt from."""
    changed = config.augment or config.mixup > 0 or config.cutmix > 0
    small = len(images) * len(images.classes) <= MOST_CACHED
    return small and not changed and not config.features
