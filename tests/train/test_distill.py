from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from toy import TRAIN, toy_data, toy_net

from bnas.train import TrainConfig, soft_label_loss
from bnas.train.distill import SoftLabelled, can_be_cached
from bnas.train.learners import distilled


def by_hand(student: list[list[float]], teacher: list[list[float]], temperature: float) -> float:
    def softmax(row: list[float]) -> list[float]:
        powers = [math.exp(z / temperature) for z in row]
        return [power / sum(powers) for power in powers]

    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        total += sum(q * math.log(q / p) for p, q in zip(softmax(s), softmax(t), strict=True))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_label_loss_is_the_scaled_divergence(temperature: float) -> None:
    student, teacher = [[1.0, 2.0, -1.0], [0.0, 0.5, 0.25]], [[0.0, 3.0, 1.0], [2.0, -2.0, 0.5]]
    loss = soft_label_loss(torch.tensor(student), torch.tensor(teacher), temperature)
    assert loss.item() == pytest.approx(by_hand(student, teacher, temperature), rel=1e-5)
    assert soft_label_loss(torch.tensor(teacher), torch.tensor(teacher), temperature).item() < 1e-6


RUNS: list[tuple[bool, bool]] = []  # (training mode, gradients) of each run of Fixed


class Fixed(nn.Module):
    """A teacher that always says the same."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 0.0, -1.0, 2.0]]))

    def forward(self, x: Tensor) -> Tensor:
        RUNS.append((self.training, torch.is_grad_enabled()))
        return self.weight.expand(len(x), -1)


def test_criterion_weighs_labels_and_a_teacher_that_runs_once() -> None:
    RUNS.clear()
    outputs, labels = torch.tensor([[0.0, 1.0, 0.0, 0.0]]), torch.tensor([1])
    config = TrainConfig(distill=0.25, temperature=2.0, label_smoothing=0.0)
    criterion = distilled(config, Fixed())(torch.zeros(1, 1, 6, 6), labels)
    hard = -math.log(math.e / (math.e + 3))
    soft = by_hand(outputs.tolist(), [[1.0, 0.0, -1.0, 2.0]], 2.0)
    assert criterion(outputs).item() == pytest.approx(0.75 * hard + 0.25 * soft, rel=1e-5)
    criterion(outputs)
    assert RUNS == [(False, False)]


def test_without_a_teacher_only_the_labels_count() -> None:
    outputs, labels = torch.tensor([[0.0, 1.0, 0.0, 0.0]]), torch.tensor([1])
    loss = distilled(TRAIN, None)(torch.zeros(1), labels)(outputs)
    assert loss.item() == pytest.approx(-math.log(math.e / (math.e + 3)), rel=1e-5)


def test_the_teacher_is_not_touched() -> None:
    teacher = toy_net().train()
    distilled(TRAIN, teacher)(torch.randn(8, 1, 6, 6), torch.zeros(8, dtype=torch.int64))
    assert teacher.training
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert torch.equal(teacher.norm.running_mean, torch.zeros(8))  # type: ignore[arg-type]


def test_cached_soft_labels_give_the_loss_of_the_teacher_itself() -> None:
    """Whatever the order in which images are asked for, each has its own label and its own logits."""
    data, teacher, config = toy_data().train, toy_net().eval(), TrainConfig(distill=0.5)
    cached = SoftLabelled(data, teacher, "float32")
    indices = [7, 0, 3]
    x, labels = data.batch(indices)
    same_x, both = cached.batch(indices)
    assert torch.equal(x, same_x)
    assert torch.equal(both[:, 0].long(), labels)
    outputs = torch.randn(3, len(data.classes))
    expected = distilled(config, teacher)(x, labels)(outputs)
    assert distilled(config, teacher)(same_x, both)(outputs).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_what_can_be_cached() -> None:
    data = toy_data().train
    assert can_be_cached(data, augmented=False)
    assert not can_be_cached(data, augmented=True)
