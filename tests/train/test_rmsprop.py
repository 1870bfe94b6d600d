from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from bnas.train.rmsprop import TensorFlowRMSprop


def written_out(
    w: float, gradients: list[float], *, lr: float, decay: float, eps: float, momentum: float
) -> float:
    """TensorFlow's documentation of tf.compat.v1.train.RMSPropOptimizer, on one number."""
    square, buffer = 1.0, 0.0
    for g in gradients:
        square = decay * square + (1 - decay) * g * g
        buffer = momentum * buffer + lr * g / (square + eps) ** 0.5
        w -= buffer
    return w


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_is_the_formula(momentum: float) -> None:
    gradients = [[1e-3, 5.0], [2e-3, -3.0], [0.0, 1.0]]
    weight = nn.Parameter(torch.tensor([0.5, -0.25], dtype=torch.float64))
    optimizer = TensorFlowRMSprop([weight], lr=0.256, momentum=momentum)
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    expected = [
        written_out(start, list(own), lr=0.256, decay=0.9, eps=1e-3, momentum=momentum)
        for start, own in zip((0.5, -0.25), zip(*gradients, strict=True), strict=True)
    ]
    assert weight.tolist() == pytest.approx(expected, rel=1e-12)


def test_weight_decay_is_part_of_the_gradient() -> None:
    weights = [nn.Parameter(torch.tensor([2.0, -1.0])) for _ in range(2)]
    own, other = weights
    decaying = TensorFlowRMSprop([{"params": [own], "weight_decay": 0.1}], lr=0.1)
    plain = TensorFlowRMSprop([other], lr=0.1)
    for _ in range(3):
        own.grad = torch.ones(2)
        other.grad = torch.ones(2) + 0.1 * other.detach()
        decaying.step()
        plain.step()
        assert own.grad.tolist() == [1.0, 1.0]  # it is not changed in place
    assert torch.allclose(own, other, rtol=0, atol=1e-7)


def test_parameters_without_gradients_rest() -> None:
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = TensorFlowRMSprop([used, unused], lr=0.1)
    used.grad = torch.ones(3)
    optimizer.step()
    assert unused.tolist() == [1.0] * 3
    assert unused not in optimizer.state


def test_its_state_goes_on_bit_identically() -> None:
    def steps(weight: Tensor, optimizer: TensorFlowRMSprop, seeds: range) -> None:
        for seed in seeds:
            weight.grad = torch.randn(4, generator=torch.Generator().manual_seed(seed))
            optimizer.step()

    whole, cut = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    steps(whole, TensorFlowRMSprop([whole], lr=0.1), range(6))
    first = TensorFlowRMSprop([cut], lr=0.1)
    steps(cut, first, range(3))
    second = TensorFlowRMSprop([cut], lr=0.0)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(cut, second, range(3, 6))
    assert torch.equal(whole, cut)


def test_where_torch_has_the_same_form_the_steps_are_its_steps() -> None:
    """Far from eps, without momentum, and started from v = 1, both forms are one."""
    own, theirs = (nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64)) for _ in range(2))
    ours = TensorFlowRMSprop([own], lr=0.01, momentum=0.0, eps=1e-30)
    torchs = torch.optim.RMSprop([theirs], lr=0.01, alpha=0.9, eps=1e-30)
    own.grad = theirs.grad = torch.zeros(2, dtype=torch.float64)
    torchs.step()
    torchs.state[theirs]["square_avg"].fill_(1.0)
    for number in range(5):
        own.grad = theirs.grad = torch.tensor([1.0 + number, -3.0], dtype=torch.float64)
        ours.step()
        torchs.step()
    assert torch.allclose(own, theirs, rtol=1e-12)
