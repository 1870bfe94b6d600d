from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from bnas.data import Batch, DataConfig, batches, epoch_order
from bnas.data.splits import split_indices, stratified
from bnas.errors import ConfigError, DataError
from bnas.plain import from_plain, to_plain


@dataclass
class Counted:
    """Ten one-pixel images whose value is their index; writes down every batch that is decoded."""

    classes: tuple[str, ...] = ("even", "odd")
    shape: tuple[int, int, int] = (1, 1, 1)
    fails_at: int = -1
    asked: list[tuple[list[int], int | None]] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    torch_threads: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return 10

    def batch(self, indices: Sequence[int], *, augment: int | None = None, first: int = 0) -> Batch:
        self.asked.append((list(indices), augment))
        self.firsts.append(first)
        self.torch_threads.add(torch.get_num_threads())
        self.threads.add(threading.current_thread().name)
        if self.fails_at in indices:
            raise DataError(f"image {self.fails_at} is damaged")
        chosen = torch.tensor(list(indices))
        return chosen.float().view(-1, 1, 1, 1), chosen % 2


def values(made: list[Batch]) -> list[list[int]]:
    return [images.flatten().int().tolist() for images, _ in made]


def test_batches_cover_the_split_once_and_the_last_is_smaller() -> None:
    assert values(list(batches(Counted(), 4))) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_batches_follow_the_given_order() -> None:
    made = list(batches(Counted(), 2, order=[7, 3, 3, 0, 9]))
    assert values(made) == [[7, 3], [3, 0], [9]]
    assert made[0][1].tolist() == [1, 1]


def test_a_batch_is_augmented_by_the_seed_of_its_number() -> None:
    images = Counted()
    list(batches(images, 4, augment=lambda number: 100 + number))
    assert [seed for _, seed in images.asked] == [100, 101, 102]


def test_start_passes_over_batches_without_decoding_them_and_keeps_their_numbers() -> None:
    images = Counted()
    made = list(batches(images, 4, augment=lambda number: 100 + number, start=2))
    assert values(made) == [[8, 9]]
    assert images.asked == [([8, 9], 102)]
    assert list(batches(images, 4, start=3)) == []


def test_batches_are_made_ahead_in_another_thread() -> None:
    images = Counted()
    ahead = batches(images, 2)
    next(ahead)
    deadline = time.monotonic() + 5
    while len(images.asked) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(images.asked) >= 2
    assert threading.current_thread().name not in images.threads
    ahead.close()  # type: ignore[attr-defined]


def test_an_unfinished_iteration_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    for _ in batches(Counted(), 2):
        break
    assert threading.active_count() == before


def test_an_error_in_the_thread_is_raised_where_its_batch_is_due() -> None:
    ahead = batches(Counted(fails_at=5), 2)
    assert values([next(ahead), next(ahead)]) == [[0, 1], [2, 3]]
    with pytest.raises(DataError, match="image 5 is damaged"):
        next(ahead)


def test_a_batch_size_below_one_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="batch_size: must be at least 1, got 0"):
        batches(Counted(), 0)


def test_torch_works_with_one_thread_in_the_background_and_with_all_elsewhere() -> None:
    images, before = Counted(), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        list(batches(images, 4))
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert images.torch_threads == {1}
        assert torch.get_num_threads() == 3
        assert elsewhere == [3]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_are_the_batches_cut_in_equal_parts(size: int) -> None:
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    whole = values(list(batches(Counted(), 7, order=order)))
    shares = [values(list(batches(Counted(), 7, order=order, share=(rank, size)))) for rank in range(size)]
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        assert len({len(part) for part in parts}) == 1
        together = [value for part in parts for value in part]
        assert together == batch[: len(together)]
        assert len(batch) - len(together) < size


def test_a_share_is_told_its_place_in_the_batch_and_the_seed_of_the_whole() -> None:
    images = Counted()
    made = list(batches(images, 4, augment=lambda number: 100 + number, share=(1, 2), start=1))
    assert values(made) == [[6, 7], [9]]
    assert images.asked == [([6, 7], 101), ([9], 102)]
    assert images.firsts == [2, 1]


def test_images_that_know_nothing_of_shares_do_for_one_process() -> None:
    class Own(Counted):
        def batch(self, indices: Sequence[int], *, augment: int | None = None) -> Batch:  # type: ignore[override]
            return super().batch(indices, augment=augment)

    assert values(list(batches(Own(), 5))) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


@pytest.mark.parametrize(("batch_size", "images"), [(2, 10), (4, 10), (16, 2)])
def test_no_process_gets_an_empty_share(batch_size: int, images: int) -> None:
    with pytest.raises(DataError, match="a batch of 2 images cannot be shared by 3 processes: use fewer"):
        batches(Counted(), batch_size, order=range(images), share=(0, 3))


def test_nothing_is_wrong_with_sharing_out_no_batches() -> None:
    assert list(batches(Counted(), 4, start=3, share=(0, 3))) == []
    assert list(batches(Counted(), 4, order=[], share=(0, 3))) == []


@pytest.mark.parametrize("share", [(2, 2), (-1, 2), (0, 0)])
def test_a_share_that_there_is_not(share: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"share: rank must be from 0 to {share[1] - 1}, got {share[0]}"):
        batches(Counted(), 2, share=share)


def test_a_label_that_is_no_class_is_named_where_its_batch_is_due() -> None:
    ahead = batches(Counted(classes=("even",)), 2, order=[0, 2, 4, 3])
    assert values([next(ahead)]) == [[0, 2]]
    with pytest.raises(DataError, match="image 3 of the split has label 1; allowed: 0 to 0"):
        next(ahead)


def test_epoch_order_is_a_permutation_fixed_by_seed_and_epoch() -> None:
    order = epoch_order(50, 0, 0)
    assert sorted(order) == list(range(50))
    assert order != list(range(50))
    assert order == epoch_order(50, 0, 0)
    assert order != epoch_order(50, 0, 1)
    assert order != epoch_order(50, 1, 0)


def test_stratified_keeps_the_shares_of_the_classes() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    chosen = stratified(labels, 10, np.random.default_rng(0))
    assert np.bincount(labels[chosen]).tolist() == [5, 3, 2]
    assert (np.diff(chosen) > 0).all()


def test_stratified_settles_fractions_by_largest_remainder() -> None:
    labels = np.repeat([0, 1, 2], [5, 3, 2])  # 4 of 10 images: shares 2.0, 1.2, 0.8
    chosen = stratified(labels, 4, np.random.default_rng(0))
    assert np.bincount(labels[chosen]).tolist() == [2, 1, 1]


def test_val_is_drawn_off_train_and_shares_nothing_with_it() -> None:
    labels = np.arange(100) % 10
    train, val, test = split_indices(labels, labels[:20], DataConfig(val_images=20, train_images=50))
    assert (len(train), len(val), len(test)) == (50, 20, 20)
    assert not set(train) & set(val)
    assert np.bincount(labels[val]).tolist() == [2] * 10
    assert np.bincount(labels[train]).tolist() == [5] * 10


def test_fewer_training_images_leave_the_val_split_as_it_is() -> None:
    labels = np.arange(100) % 10
    _, all_val, _ = split_indices(labels, labels, DataConfig(val_images=20))
    _, val, _ = split_indices(labels, labels, DataConfig(val_images=20, train_images=10, test_images=10))
    assert val.tolist() == all_val.tolist()


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"val_images": 100}, "data.val_images: at most 99"),
        ({"val_images": 20, "train_images": 81}, "data.train_images: at most 80"),
        ({"val_images": 20, "test_images": 31}, "data.test_images: at most 30"),
    ],
)
def test_more_images_than_there_are_is_an_error(wanted: dict[str, int], text: str) -> None:
    labels = np.arange(100) % 10
    with pytest.raises(DataError, match=text):
        split_indices(labels, labels[:30], DataConfig(**wanted))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"size": 0}, "size: must be at least 8, got 0"),
        ({"channels": 2}, r"channels: must be 1 \(grey\) or 3 \(colour\), got 2"),
        ({"val_images": 0}, "val_images: must be at least 1, got 0"),
        ({"max_shift": -1}, "max_shift: must be at least 0, got -1"),
        ({"max_shift": 32}, "max_shift: must be below size=32, got 32"),
        ({"rand_augment": -1}, "rand_augment: must be at least 0, got -1"),
        ({"rand_augment_magnitude": -1}, "rand_augment_magnitude: must be at least 0, got -1"),
        ({"rand_augment_magnitude": 31}, "rand_augment_magnitude: must be at most 30, got 31"),
    ],
)
def test_values_out_of_range_name_their_option(wrong: dict[str, int], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{text}"):
        DataConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"^data\.{text}"):
        from_plain(DataConfig, wrong, "data")


def test_options_at_their_defaults_leave_the_plain_form_as_it_was() -> None:
    assert set(to_plain(DataConfig())) == {
        *(
            "name",
            "root",
            "size",
            "channels",
            "val_images",
            "train_images",
            "test_images",
            "split_seed",
            "flip",
        ),
        *("max_shift", "batch_workers"),
    }
    changed = DataConfig(rand_augment=2, rand_augment_magnitude=7, cache="there")
    assert from_plain(DataConfig, to_plain(changed)) == changed
