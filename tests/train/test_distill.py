from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from toy import toy_data, toy_net

from bnas.errors import ConfigError
from bnas.train.config import FeatureMatch, TrainConfig
from bnas.train.distill import (
    DIVERGENCES,
    FEATURE_LOSSES,
    SoftLabelled,
    alpha_divergence,
    attention_transfer,
    can_be_cached,
    relative_error,
    soft_label_loss,
)

Array = np.ndarray


def logits(seed: int, *, images: int = 5, classes: int = 7, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(images, classes, generator=torch.Generator().manual_seed(seed))


def softmax(z: Array) -> Array:
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def divergence(p: Array, q: Array, alpha: float, clip: float = math.inf) -> Array:
    """The alpha-divergence of each row from its definition; its limits are the two KL divergences."""
    if alpha == 1:
        return np.asarray((p * np.log(p / q)).sum(axis=1))
    if alpha == 0:
        return np.asarray((q * np.log(q / p)).sum(axis=1))
    return np.asarray((q * (np.minimum((p / q) ** alpha, clip) - 1)).sum(axis=1) / (alpha * (alpha - 1)))


def adaptive(own: Array, teacher: Array, temperature: float, alphas: tuple[float, float]) -> float:
    q, p = softmax(own / temperature), softmax(teacher / temperature)
    both = [divergence(p, q, alpha) for alpha in alphas]
    return float(temperature**2 * np.maximum(*both).mean())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_label_loss_is_torchs_divergence_scaled(temperature: float) -> None:
    own, teacher = logits(0), logits(1)
    targets = torch.softmax(teacher.double() / temperature, dim=1)
    inputs = torch.log_softmax(own.double() / temperature, dim=1)
    expected = temperature**2 * functional.kl_div(inputs, targets, reduction="sum") / len(own)
    assert soft_label_loss(own, teacher, temperature).item() == pytest.approx(expected.item(), rel=1e-5)
    assert abs(soft_label_loss(teacher, teacher, temperature).item()) < 1e-6


@pytest.mark.parametrize("alphas", [(-1.0, 1.0), (-1.0, 0.5), (0.0, 2.0), (-0.5, 0.0)])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_alpha_divergence_and_its_gradient_from_the_definition(
    alphas: tuple[float, float], temperature: float
) -> None:
    """In float64 from the formula, the gradient by central differences; nothing clipped."""
    own, teacher = logits(0).requires_grad_(), logits(1).requires_grad_()
    low, high = alphas
    loss = alpha_divergence(own, teacher, temperature, alpha_min=low, alpha_max=high, clip=math.inf)
    loss.backward()  # type: ignore[no-untyped-call]
    z, t = own.detach().double().numpy(), teacher.detach().double().numpy()
    assert loss.item() == pytest.approx(adaptive(z, t, temperature, alphas), rel=1e-4)
    expected, step = np.zeros_like(z), 1e-5
    for place in np.ndindex(*z.shape):
        up, down = z.copy(), z.copy()
        up[place] += step
        down[place] -= step
        expected[place] = (adaptive(up, t, temperature, alphas) - adaptive(down, t, temperature, alphas)) / (
            2 * step
        )
    assert own.grad is not None
    np.testing.assert_allclose(own.grad.numpy(), expected, rtol=1e-3, atol=1e-4 * abs(expected).max())
    assert teacher.grad is None


def test_the_larger_divergence_of_each_image_counts() -> None:
    sure, unsure = [4.0, 0.0, 0.0], [1.0, 0.5, 0.0]
    own, teacher = torch.tensor([sure, unsure]), torch.tensor([unsure, sure])
    q, p = softmax(own.double().numpy()), softmax(teacher.double().numpy())
    low, high = divergence(p, q, -1.0), divergence(p, q, 1.0)
    assert low[0] < high[0]
    assert low[1] > high[1]  # probability where the teacher has next to none: the negative alpha minds
    loss = alpha_divergence(own, teacher, clip=math.inf)
    assert loss.item() == pytest.approx((high[0] + low[1]) / 2, rel=1e-5)


def test_at_alpha_one_it_is_the_divergence_of_soft_labels() -> None:
    own, teacher = logits(0), logits(1)
    expected = soft_label_loss(own, teacher, 2.0).item()
    exact = alpha_divergence(own, teacher, 2.0, alpha_min=1.0, alpha_max=1.0)
    assert exact.item() == pytest.approx(expected, rel=1e-5)
    errors = []
    for gap in (0.1, 0.01):
        near = alpha_divergence(own, teacher, 2.0, alpha_min=1 - gap, alpha_max=1 - gap, clip=math.inf)
        errors.append(abs(near.item() - expected))
    assert errors[1] < 0.2 * errors[0] < 0.1 * expected


def test_importance_weights_are_clipped_in_value_and_gradient() -> None:
    """w = q min((p/q)^a, 5) / a, whose gradient in the logits is q_j sum w - w_j."""
    own, teacher = logits(0, scale=4.0).requires_grad_(), logits(1, scale=4.0)
    loss = alpha_divergence(own, teacher, alpha_min=-1.0, alpha_max=-1.0)
    loss.backward()  # type: ignore[no-untyped-call]
    q, p = softmax(own.detach().double().numpy()), softmax(teacher.double().numpy())
    assert ((q / p) > 5).any()
    assert loss.item() == pytest.approx(divergence(p, q, -1.0, clip=5.0).mean(), rel=1e-4)
    weights = -q * np.minimum(q / p, 5)
    expected = (q * weights.sum(axis=1, keepdims=True) - weights) / len(q)
    assert own.grad is not None
    np.testing.assert_allclose(own.grad.numpy(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_networks_that_are_very_sure_have_a_tame_gradient(name: str) -> None:
    own = torch.tensor([[200.0, -200.0, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = DIVERGENCES[name](own, torch.tensor([[-200.0, 200.0, 0.0]], dtype=torch.bfloat16), 1.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.dtype is torch.float32
    assert math.isfinite(loss.item())
    assert own.grad is not None
    assert own.grad.abs().max() <= 5


def attention_by_hand(own: Tensor, teacher: Tensor) -> float:
    total = 0.0
    for image, other in zip(own.double().numpy(), teacher.double().numpy(), strict=True):
        maps = []
        for one in (image, other):
            attention = np.zeros(one.shape[1:])
            for channel in one:
                attention += channel**2
            maps.append(attention.ravel() / math.sqrt((attention**2).sum()))
        total += float(((maps[0] - maps[1]) ** 2).sum())
    return total / len(own)


@pytest.mark.parametrize("size", [(3, 5), (2, 3, 4)])
def test_attention_transfer_as_a_loop(size: tuple[int, ...]) -> None:
    own, teacher = torch.randn(2, 3, *size), torch.randn(2, 6, *size)
    loss = attention_transfer(own, teacher)
    assert loss.item() == pytest.approx(attention_by_hand(own, teacher), rel=1e-5)
    tokens = own.flatten(2).transpose(1, 2), teacher.flatten(2).transpose(1, 2)
    assert attention_transfer(*tokens).item() == pytest.approx(loss.item(), rel=1e-5)


def test_attention_does_not_mind_the_order_of_channels_or_the_scale() -> None:
    own, teacher = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    expected = attention_transfer(own, teacher).item()
    assert expected > 0.01
    assert attention_transfer(own[:, [2, 0, 3, 1]], 7 * teacher).item() == pytest.approx(expected, rel=1e-5)
    assert attention_transfer(own[:, [2, 0, 3, 1]], own).item() < 1e-10


def test_attention_on_smaller_images_is_compared_on_the_smaller_map() -> None:
    small, large = torch.rand(2, 3, 2, 2), torch.rand(2, 5, 4, 4)
    shrunk = functional.avg_pool2d(large.square().mean(1, keepdim=True), 2).sqrt()
    expected = attention_transfer(small, shrunk).item()
    assert attention_transfer(small, large).item() == pytest.approx(expected, rel=1e-5)
    assert attention_transfer(large, small).item() == pytest.approx(expected, rel=1e-5)


def test_mse_is_relative_to_the_teacher() -> None:
    own, teacher = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    expected = (np.square(own.numpy() - teacher.numpy()).sum() / np.square(teacher.numpy()).sum()).item()
    assert relative_error(own, teacher).item() == pytest.approx(expected, rel=1e-5)
    assert relative_error(9 * own, 9 * teacher).item() == pytest.approx(expected, rel=1e-5)
    assert relative_error(torch.zeros(3), torch.zeros(3)).item() == 0


def test_what_cannot_be_compared_is_refused() -> None:
    assert set(FEATURE_LOSSES) == {"mse", "attention"}
    with pytest.raises(ConfigError, match=r"'mse' needs .* equal shape.* \[2, 3\] .* \[2, 4\]"):
        relative_error(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ConfigError, match=r"'attention' needs .*positions.* got \[2, 3\]"):
        attention_transfer(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ConfigError, match=r"same positions, got \[2, 5, 3\] .* \[2, 9, 3\]"):
        attention_transfer(torch.zeros(2, 5, 3), torch.zeros(2, 9, 3))


def test_cached_logits_are_those_of_the_images_asked_for() -> None:
    """Whatever the order in which images are asked for, each has its own label and its own logits."""
    data, teacher = toy_data().train, toy_net().eval()
    cached = SoftLabelled(data, teacher, "float32")
    indices = [7, 0, 3]
    x, labels = data.batch(indices)
    same_x, both = cached.batch(indices, augment=None, first=2)
    assert torch.equal(x, same_x)
    assert torch.equal(both[:, 0].long(), labels)
    torch.testing.assert_close(both[:, 1:], teacher(x).detach())
    assert len(cached) == len(data)


def test_what_can_be_cached() -> None:
    data, config = toy_data().train, TrainConfig(augment=False)
    assert can_be_cached(data, config)
    for option in ({"augment": True}, {"mixup": 0.2}, {"cutmix": 1.0}):
        assert not can_be_cached(data, TrainConfig(**{"augment": False, **option}))
    assert not can_be_cached(data, TrainConfig(augment=False, features=(FeatureMatch(modules="stem"),)))
