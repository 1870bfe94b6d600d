from __future__ import annotations

import math
from collections import namedtuple

import pytest
import torch

from bnas.errors import DataError
from bnas.train import TASKS

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
