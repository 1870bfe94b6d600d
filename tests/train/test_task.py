from __future__ import annotations

import math
from collections import namedtuple

import pytest
import torch
from torch import Tensor

from bnas.errors import DataError
from bnas.train.task import TASKS

TASK = TASKS["classification"]


def test_label_smoothing_by_hand() -> None:
    # softmax of (ln 2, 0) is (2/3, 1/3); smoothing 0.2 over two classes: targets (0.9, 0.1)
    loss = TASK.loss(torch.tensor([[math.log(2), 0.0]]), torch.tensor([0]), 0.2)
    assert loss.item() == pytest.approx(-0.9 * math.log(2 / 3) - 0.1 * math.log(1 / 3), rel=1e-6)


def test_auxiliary_heads_count_a_third_as_googlenet_has_it() -> None:
    outputs = namedtuple("outputs", "logits aux2 aux1")(torch.zeros(1, 2), torch.zeros(1, 2), None)
    assert TASK.loss(outputs, torch.tensor([0]), 0.0).item() == pytest.approx(1.3 * math.log(2), rel=1e-6)


def test_top1_percent_over_unequal_batches() -> None:
    eye = torch.eye(3)
    results = [(eye, torch.tensor([0, 1, 0])), (eye[:1], torch.tensor([0]))]
    assert TASK.metric(results) == 75.0
    with pytest.raises(DataError):
        TASK.metric([])


def test_labels_may_be_probabilities_as_mixed_images_have_them() -> None:
    logits = torch.randn(5, 3)
    logs = torch.log_softmax(logits.double(), dim=1)
    mixed = torch.tensor(
        [[0.3, 0.7, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.2, 0.2, 0.6], [0.0, 0.0, 1.0]]
    )
    expected = -(mixed.double() * logs).sum().item() / 5
    assert TASK.loss(logits, mixed, 0.0).item() == pytest.approx(expected, rel=1e-6)
    smooth = -((0.9 * mixed.double() + 0.1 / 3) * logs).sum().item() / 5
    assert TASK.loss(logits, mixed, 0.1).item() == pytest.approx(smooth, rel=1e-6)
    indices = torch.tensor([2, 0, 1, 1, 2])
    hard = torch.nn.functional.one_hot(indices, 3).float()
    assert TASK.loss(logits, hard, 0.1).item() == pytest.approx(
        TASK.loss(logits, indices, 0.1).item(), rel=1e-6
    )


@pytest.mark.parametrize("label", [3, -1, 7])
def test_a_label_out_of_range_is_named(label: int) -> None:
    with pytest.raises(DataError, match=rf"labels: {label} of image 1 .* classes, 0 to 2"):
        TASK.loss(torch.zeros(3, 3), torch.tensor([0, label, 2]), 0.0)
    with pytest.raises(DataError, match=r"labels: 4 probabilities .* 3 classes"):
        TASK.loss(torch.zeros(2, 3), torch.zeros(2, 4), 0.0)


def test_main_heads_are_compared_with_the_teacher() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def divergence(own: Tensor, teacher: Tensor) -> Tensor:
        seen.append((own, teacher))
        return (own - teacher).sum()

    own, teacher = torch.ones(2, 3), torch.zeros(2, 3)
    outputs = namedtuple("outputs", "logits aux")(own, torch.full((2, 3), 9.0))
    assert TASK.distill(outputs, teacher, divergence).item() == 6
    assert seen[0][0] is own
    assert seen[0][1] is teacher
