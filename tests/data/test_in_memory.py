from __future__ import annotations

import numpy as np
import pytest
import torch

from bnas.data.in_memory import InMemoryImages, fit, shift_and_flip


def made(size: int = 6, **options: object) -> InMemoryImages:
    pixels = torch.randint(1, 256, (20, 6, 6), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    arguments: dict[str, object] = {"mean": 0.5, "std": 0.25, "max_shift": 2} | options
    return InMemoryImages(pixels=pixels, labels=torch.arange(20), classes=("a",), size=size, **arguments)  # type: ignore[arg-type]


def test_a_batch_is_normalised_and_in_the_order_asked_for() -> None:
    images = made()
    batch, labels = images.batch([3, 1])
    assert labels.tolist() == [3, 1]
    assert labels.dtype == torch.int64
    assert batch.dtype == torch.float32
    assert batch.shape == (2, *images.shape) == (2, 1, 6, 6)
    value = images.pixels[3, 2, 4].item()
    assert batch[0, 0, 2, 4].item() == pytest.approx((value / 255 - 0.5) / 0.25, abs=1e-6)


def test_three_channels_repeat_the_grey_one() -> None:
    images = made(channels=3)
    batch, _ = images.batch(range(5))
    assert batch.shape == (5, *images.shape) == (5, 3, 6, 6)
    assert batch.is_contiguous()
    grey, _ = made().batch(range(5))
    for channel in range(3):
        assert torch.equal(batch[:, channel], grey[:, 0])


def test_a_slightly_larger_size_pads_with_black() -> None:
    batch, _ = made(size=10).batch([0])
    assert batch.shape == (1, 1, 10, 10)
    black = (0 - 0.5) / 0.25
    assert torch.equal(batch[:, :, 2:8, 2:8], made().batch([0])[0])
    assert (batch[:, :, :2] == black).all()
    assert (batch[:, :, :, 8:] == black).all()


def test_other_sizes_resize() -> None:
    flat = torch.full((1, 1, 28, 28), 7.0)
    for size in (14, 64):
        assert torch.allclose(fit(flat, size), torch.full((1, 1, size, size), 7.0))
    ramp = torch.arange(28.0).expand(1, 1, 28, 28)
    assert (fit(ramp, 64).diff(dim=3) >= 0).all()


def test_augmentation_is_fixed_by_its_seed_and_changes_with_it() -> None:
    images = made()
    same, _ = images.batch(range(20), augment=3)
    assert torch.equal(same, images.batch(range(20), augment=3)[0])
    assert not torch.equal(same, images.batch(range(20), augment=4)[0])
    assert not torch.equal(same, images.batch(range(20))[0])


def test_every_augmented_image_is_a_shifted_maybe_mirrored_one() -> None:
    """Witness: each result is looked for among all 25 shifts of both mirror images, made one by one."""
    pixels = made().pixels.float().unsqueeze(1)
    result = shift_and_flip(pixels, np.random.default_rng(0).random((20, 3)), max_shift=2, flip=True)
    found = set()
    for image, moved in zip(pixels, result, strict=True):
        for flipped in (False, True):
            canvas = torch.zeros(1, 10, 10)
            canvas[:, 2:8, 2:8] = image.flip(2) if flipped else image
            for dy in range(5):
                for dx in range(5):
                    if torch.equal(moved, canvas[:, dy : dy + 6, dx : dx + 6]):
                        found.add((image.sum().item(), flipped, dy, dx))
    assert len(found) == 20
    assert {flipped for _, flipped, _, _ in found} == {False, True}
    assert {0, 4} <= {dy for _, _, dy, _ in found}
    assert {0, 4} <= {dx for _, _, _, dx in found}
    assert len({(dy, dx) for _, _, dy, dx in found}) > 10, "the two directions are drawn apart"


@pytest.mark.parametrize("size", [6, 8, 12])
@pytest.mark.parametrize("operations", [0, 2])
@pytest.mark.parametrize("parts", [1, 2, 5, 20])
def test_shares_of_a_batch_are_the_batch_cut_in_shares(size: int, operations: int, parts: int) -> None:
    images = made(size=size, rand_augment=operations, channels=3)
    order = np.random.default_rng(1).permutation(20).tolist()
    whole, labels = images.batch(order, augment=7)
    each = 20 // parts
    shares = [images.batch(order[i : i + each], augment=7, first=i) for i in range(0, 20, each)]
    assert torch.equal(whole, torch.cat([share for share, _ in shares]))
    assert torch.equal(labels, torch.cat([own for _, own in shares]))


def test_equal_images_at_two_places_are_augmented_apart() -> None:
    moved, _ = made().batch([4] * 20, augment=0)
    assert len({tuple(image.flatten().tolist()) for image in moved}) > 10


def test_grey_levels_are_not_changed_by_shifts_in_bytes() -> None:
    """Witness: normalisation of one image as the formula says, with torch's float32."""
    images = made(flip=False, max_shift=0)
    expected = images.pixels.float().div(255).sub(0.5).div(0.25)[:, None]
    assert torch.equal(images.batch(range(20))[0], expected)
    assert torch.equal(images.batch(range(20), augment=3)[0], expected)


def test_rand_augment_changes_the_stored_grey_levels() -> None:
    images = made(flip=False, max_shift=0, rand_augment=1, magnitude=20)
    moved, _ = images.batch(range(20), augment=5)
    levels = (moved * 0.25 + 0.5).mul(255).round()
    unchanged = [torch.equal(a[0], b.float()) for a, b in zip(levels, images.pixels, strict=True)]
    assert 0 < sum(unchanged) < 12, "Identity, Color on grey and a few more change nothing; the others do"
    assert torch.equal(moved, images.batch(range(20), augment=5)[0])
    assert not torch.equal(moved, images.batch(range(20), augment=6)[0])
    assert torch.equal(images.batch(range(20))[0], made().batch(range(20))[0]), "only where it is asked for"


def test_rand_augment_leaves_shifts_and_flips_as_they_were() -> None:
    """At magnitude 0, of the operations only equalising ones and Solarize do anything."""
    plain, _ = made().batch(range(20), augment=2)
    more, _ = made(rand_augment=1, magnitude=0).batch(range(20), augment=2)
    same = [torch.equal(a, b) for a, b in zip(plain, more, strict=True)]
    assert 10 <= sum(same) < 20


def test_without_flip_and_shift_nothing_is_changed() -> None:
    images = made(flip=False, max_shift=0)
    assert torch.equal(images.batch(range(20), augment=1)[0], images.batch(range(20))[0])


def test_augmentation_neither_reads_nor_moves_the_global_generator() -> None:
    images = made()
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, _ = images.batch(range(20), augment=0)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, images.batch(range(20), augment=0)[0])
