from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from bnas.data import augment
from bnas.data.augment import BINS, OPERATIONS, rand_augment, rand_augment_batch

NAMES = tuple(v2.RandAugment._AUGMENTATION_SPACE)


def noise(*shape: int) -> torch.Tensor:
    """Bytes with smooth parts, so that equalising and blurring show."""
    rng = np.random.default_rng(len(shape))
    ramp = np.linspace(20, 180, shape[-1])
    return torch.from_numpy((ramp + rng.normal(scale=12, size=shape)).clip(0, 255).astype(np.uint8))


def picture(channels: int) -> Image.Image:
    return F.to_pil_image(noise(channels, 21, 34))


def force(name: str, *, negative: bool) -> np.ndarray:
    """Draws [1, 2] that choose this operation and sign."""
    return np.array([[(list(OPERATIONS).index(name) + 0.5) / len(OPERATIONS), 0.25 if negative else 0.75]])


def theirs(image: Any, name: str, magnitude: int, monkeypatch: pytest.MonkeyPatch, *, negative: bool) -> Any:
    """What torchvision's own class makes of the image when chance wants this operation and this sign."""
    transform = v2.RandAugment(num_ops=1, magnitude=magnitude, num_magnitude_bins=31)
    monkeypatch.setattr(transform, "_get_random_item", lambda space: (name, space[name]))
    monkeypatch.setattr(torch, "rand", lambda size: torch.tensor(0.2 if negative else 0.8))
    made = transform(image)
    monkeypatch.undo()
    return made


def test_the_operations_are_torchvisions() -> None:
    assert tuple(OPERATIONS) == NAMES
    assert BINS == 31


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("magnitude", [0, 9, 17, 30])
@pytest.mark.parametrize("name", NAMES)
def test_each_operation_is_torchvisions_to_the_last_bit(
    name: str, magnitude: int, negative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = force(name, negative=negative)
    for channels in (1, 3):
        image = picture(channels)
        expected = theirs(image, name, magnitude, monkeypatch, negative=negative)
        assert np.array_equal(np.asarray(rand_augment(image, draws, magnitude)), np.asarray(expected))
        tensors = noise(2, channels, 21, 34)
        expected = theirs(tensors, name, magnitude, monkeypatch, negative=negative)
        both = np.stack([draws, draws])
        assert torch.equal(rand_augment_batch(tensors, both, magnitude), expected)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"Identity"}))
def test_each_operation_changes_a_picture(name: str) -> None:
    """Or else the comparison above would prove nothing."""
    image = picture(3)
    changed = rand_augment(image, force(name, negative=False), 20)
    assert not np.array_equal(np.asarray(changed), np.asarray(image))


@pytest.mark.parametrize("name", [name for name in NAMES if v2.RandAugment._AUGMENTATION_SPACE[name][1]])
def test_both_signs_of_a_signed_operation_differ(name: str) -> None:
    one, other = (rand_augment(picture(3), force(name, negative=sign), 20) for sign in (False, True))
    assert not np.array_equal(np.asarray(one), np.asarray(other))


def test_operations_follow_one_another() -> None:
    image = picture(3)
    draws = [
        force("Rotate", negative=True),
        force("Posterize", negative=False),
        force("ShearX", negative=False),
    ]
    at_once = rand_augment(image, np.concatenate(draws), 12)
    for draw in draws:
        image = rand_augment(image, draw, 12)
    assert np.array_equal(np.asarray(at_once), np.asarray(image))


def test_images_changed_together_are_those_changed_alone() -> None:
    images = noise(60, 1, 14, 15)
    draws = np.random.default_rng(0).random((60, 3, 2))
    before = images.clone()
    together = rand_augment_batch(images, draws, 14)
    for i in range(60):
        assert torch.equal(together[i : i + 1], rand_augment_batch(images[i : i + 1], draws[i : i + 1], 14))
    assert torch.equal(images, before), "the images given are left alone"
    assert together.dtype == torch.uint8


def test_all_operations_and_signs_come_equally_often(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[tuple[str, bool]] = []

    def write_down(image: Any, name: str, negative: bool, *_: object) -> Any:
        chosen.append((name, bool(negative)))
        return image

    monkeypatch.setattr(augment, "_apply", write_down)
    rand_augment(picture(1), np.random.default_rng(0).random((14 * 400, 2)), 9)
    counts = Counter(name for name, _ in chosen)
    assert set(counts) == set(NAMES)
    assert all(320 < count < 480 for count in counts.values())
    assert 0.47 < np.mean([negative for _, negative in chosen]) < 0.53


def test_nothing_is_drawn_from_the_global_generators() -> None:
    images, draws = noise(8, 1, 12, 12), np.random.default_rng(0).random((8, 4, 2))
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first = rand_augment_batch(images, draws, 9)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(1)
    assert torch.equal(first, rand_augment_batch(images, draws, 9))
