"""The loss of a subnet in a step: of the labels, and of a teacher's outputs and features."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from bnas.errors import ConfigError
from bnas.space import RESOLUTION, SubnetConfig
from bnas.train.distill import DIVERGENCES
from bnas.train.features import Captured, Features, detached, feature_loss
from bnas.train.layout import set_memory_format
from bnas.train.norms import device_of
from bnas.train.task import TASKS

if TYPE_CHECKING:
    from bnas.train.config import DistillConfig

# A subnet and its outputs to their loss; called once for each subnet of a step, in order, each time right after
# that subnet's forward pass. A plain network is the subnet None.
Criterion: TypeAlias = "Callable[[SubnetConfig | None, Any], Tensor]"
Taught: TypeAlias = "tuple[Any, Captured]"  # the teacher's outputs and features


@contextmanager
def criteria(
    config: DistillConfig,
    *,
    model: nn.Module,
    teacher: nn.Module | None,
    in_place: bool,
    largest: SubnetConfig | None,
) -> Iterator[Callable[[Tensor, Tensor], Criterion]]:
    """A context with the function from a batch (images, labels) to its criterion.

    The loss is (1 - distill) loss(labels) + distill divergence(teacher) + the terms of `config.features`.
    No images are run twice: the features are taken by hooks on `model`, which the context takes off.

    Args:
        config: `distill`, `divergence`, `temperature`, `features`, `task`, `label_smoothing`.
        model: what runs when a subnet's outputs are computed.
        teacher: it is copied; the copy runs once per batch, in eval mode, where the images are and in their
            own size. On a batch of a `SoftLabelled` split it does not run at all. None, and not `in_place`: the
            labels alone count.
        in_place: the teacher is the largest subnet of the same step, whatever `teacher` is. It learns from
            the labels alone; its outputs and features, which no gradient passes, teach the others (Yu & Huang
            2019, "Universally slimmable networks and improved training techniques", section 3.3).
        largest: the largest subnet, by which it is told; needed with `in_place`.

    Raises:
        ConfigError: a pattern of `config.features` matches no module of the model or the teacher; or, when a
            criterion is called, a feature cannot be compared, or the largest subnet did not come first.
    """
    task, share, features = TASKS[config.task], config.distill, config.features
    wanted = share > 0 or bool(features)
    fixed = None
    with ExitStack() as stack:
        own = theirs = None
        if wanted and (in_place or teacher is not None) and features:
            own = stack.enter_context(Features(model, features))
        if wanted and teacher is not None and not in_place:
            fixed = frozen(teacher, channels_last=config.channels_last)
            theirs = stack.enter_context(Features(fixed, features, who="the teacher"))

        def divergence(logits: Tensor, teacher_logits: Tensor) -> Tensor:
            return DIVERGENCES[config.divergence](logits, teacher_logits, config.temperature)

        def taught(outputs: Any, labels: Tensor, teaching: Taught | None) -> Tensor:
            """The loss of one subnet; without what a teacher says, of the labels alone."""
            loss = task.loss(outputs, labels, config.label_smoothing)
            if teaching is None:
                return loss
            if share > 0:
                assert task.distill is not None  # the config says so
                loss = (1 - share) * loss + share * task.distill(outputs, teaching[0], divergence)
            if own is not None:
                loss = loss + feature_loss(own.take(), teaching[1], features)
            return loss

        def of_labels(images: Tensor, labels: Tensor) -> Criterion:
            return lambda subnet, outputs: taught(outputs, labels, None)

        def of_teacher(images: Tensor, labels: Tensor) -> Criterion:
            assert fixed is not None
            assert theirs is not None
            if labels.dim() == 2 and not (config.mixup or config.cutmix):  # a SoftLabelled split
                teaching: Taught = labels[:, 1:], {}
                labels = labels[:, 0].long()
            else:
                if device_of(fixed) != images.device:
                    fixed.to(images.device)
                with torch.no_grad():
                    outputs = fixed(images)
                teaching = outputs, theirs.take()
            return lambda subnet, outputs: taught(outputs, labels, teaching)

        def of_largest(images: Tensor, labels: Tensor) -> Criterion:
            teaching: Taught | None = None

            def criterion(subnet: SubnetConfig | None, outputs: Any) -> Tensor:
                nonlocal teaching
                if is_largest(subnet, largest):
                    teaching = detached(outputs), detached(own.take()) if own is not None else {}
                    return taught(outputs, labels, None)
                if teaching is None:
                    raise ConfigError(
                        "sampling: the largest subnet must be the first of each step where it is the teacher"
                    )
                return taught(outputs, labels, teaching)

            return criterion

        yield of_largest if wanted and in_place else of_teacher if fixed is not None else of_labels


def is_largest(subnet: SubnetConfig | None, largest: SubnetConfig | None) -> bool:
    """Whether it is the largest, at any resolution: a step's subnets share theirs."""
    if subnet is None or largest is None:
        return subnet is None
    return all(subnet[name] == value for name, value in largest.items() if name != RESOLUTION)


def frozen(teacher: nn.Module, *, channels_last: bool = True) -> nn.Module:
    """A copy of the teacher that only runs: in eval mode, without gradients."""
    copied = copy.deepcopy(teacher).eval().requires_grad_(False)
    if channels_last:
        set_memory_format(copied, torch.channels_last)
    return copied
