from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bnas.train.mixing import mix

LABELS = torch.tensor([2, 0, 1, 2, 1, 0, 0, 2])


def images() -> Tensor:
    return torch.randn(8, 3, 12, 10, generator=torch.Generator().manual_seed(0))


def mixed(seed: int, *, mixup: float = 0.0, cutmix: float = 0.0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return mix(images(), LABELS, mixup=mixup, cutmix=cutmix, classes=3)


def is_mixup(x: Tensor) -> bool:
    """Whether (nearly) every pixel is changed, which CutMix does not do."""
    return bool((x != images()).flatten(1).float().mean(dim=1).min() > 0.99)


@pytest.mark.parametrize("seed", range(5))
def test_mixup_adds_up_images_and_labels_in_the_same_shares(seed: int) -> None:
    """Witness: the share is read off one pixel; every other pixel and label must be mixed by it."""
    own, before = images(), torch.stack([images()[i - 1] for i in range(8)])
    x, y = mixed(seed, mixup=0.8)
    lam = ((x - before)[0, 0, 0, 0] / (own - before)[0, 0, 0, 0]).item()
    assert 0 <= lam <= 1
    for i in range(8):
        assert torch.allclose(x[i], lam * own[i] + (1 - lam) * before[i], atol=1e-5)
        expected = torch.zeros(3)
        expected[LABELS[i]] += lam
        expected[LABELS[i - 1]] += 1 - lam
        assert torch.allclose(y[i], expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_fills_one_box_and_labels_are_the_shares_of_the_pixels(seed: int) -> None:
    own, before = images(), torch.stack([images()[i - 1] for i in range(8)])
    x, y = mixed(seed, cutmix=1.0)
    foreign = (x == before).all(dim=1) & (x != own).all(dim=1)
    assert torch.equal(torch.where(foreign[:, None], before, own), x)
    box = foreign[0]
    assert all(torch.equal(box, other) for other in foreign)
    rows, columns = (box.any(dim=1).nonzero(), box.any(dim=0).nonzero())
    assert box.sum() == len(rows) * len(columns), "a full rectangle"
    share = 1 - box.float().mean().item()
    for i in range(8):
        expected = torch.zeros(3)
        expected[LABELS[i]] += share
        expected[LABELS[i - 1]] += 1 - share
        assert torch.allclose(y[i], expected, atol=1e-5)


def test_the_strength_of_mixing_follows_the_distribution() -> None:
    """Beta(a, a) is near 0 and 1 for a small `a`, and near 1/2 for a large one."""

    def evenness(alpha: float) -> float:
        tops = [mixed(seed, mixup=alpha)[1].max(dim=1).values[1].item() for seed in range(40)]
        return sum(top < 0.8 for top in tops) / len(tops)

    assert evenness(0.05) < 0.3
    assert evenness(50.0) > 0.9


def test_with_both_each_batch_takes_one_of_them() -> None:
    kinds = [is_mixup(mixed(seed, mixup=1.0, cutmix=1.0)[0]) for seed in range(30)]
    assert 5 < sum(kinds) < 25


def test_the_same_seed_mixes_the_same_and_another_seed_does_not() -> None:
    first, again, other = (mixed(seed, mixup=1.0, cutmix=1.0) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_without_mixing_nothing_is_touched_or_drawn() -> None:
    x, state = images(), torch.random.get_rng_state()
    same_x, same_labels = mix(x, LABELS, mixup=0.0, cutmix=0.0, classes=3)
    assert same_x is x
    assert same_labels is LABELS
    assert torch.equal(state, torch.random.get_rng_state())


def test_labels_become_probabilities_and_the_batch_given_is_left_alone() -> None:
    x = images()
    _, labels = mix(x, LABELS, mixup=0.5, cutmix=0.0, classes=5)
    assert labels.shape == (8, 5)
    assert labels.dtype == torch.float32
    assert torch.allclose(labels.sum(dim=1), torch.ones(8))
    assert torch.equal(x, images())


def test_a_single_image_is_mixed_with_itself() -> None:
    one = torch.randn(1, 1, 4, 4)
    x, y = mix(one, torch.tensor([1]), mixup=1.0, cutmix=0.0, classes=2)
    assert torch.allclose(x, one)
    assert torch.allclose(y, torch.tensor([[0.0, 1.0]]))


def test_the_layout_of_the_images_is_kept() -> None:
    x = images().to(memory_format=torch.channels_last)
    for options in ({"mixup": 1.0, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 1.0}):
        made, _ = mix(x, LABELS, classes=3, **options)
        assert made.shape == x.shape
        assert made.is_contiguous(memory_format=torch.channels_last)
