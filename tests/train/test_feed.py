"""The batches of a stage: the same whoever asks, whole or in shares and parts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from toy import TRAIN, toy_images, toy_net

from bnas.errors import ConfigError
from bnas.train.feed import check_parts, cut, training_batches
from bnas.train.stages import Stage


def test_batches_of_a_step_do_not_depend_on_where_it_started() -> None:
    images, stage = toy_images(70, 1), Stage(name="s", epochs=2.5)
    every = list(training_batches(images, stage, TRAIN, 5, 0, 10))
    assert [step for step, _, _ in every] == list(range(10))
    for start in (1, 4, 7):
        rest = list(training_batches(images, stage, TRAIN, 5, start, 10))
        assert [step for step, _, _ in rest] == list(range(start, 10))
        assert all(torch.equal(a[1], b[1]) for a, b in zip(rest, every[start:], strict=True))
    plain = list(training_batches(images, stage, replace(TRAIN, augment=False), 5, 0, 4))
    seen = {tuple(x.flatten().tolist()) for _, batch, _ in plain for x in batch}
    assert len(seen) == 64  # no image twice in an epoch
    assert not torch.equal(plain[0][1], every[0][1])
    assert not torch.equal(every[0][1], every[4][1])  # the next epoch has another order


def test_shares_of_a_batch_are_the_batch_in_pieces() -> None:
    images, stage = toy_images(70, 1), Stage(name="s", epochs=2.0)
    whole = list(training_batches(images, stage, replace(TRAIN, augment=False), 5, 0, 8))
    shares = [
        list(training_batches(images, stage, replace(TRAIN, augment=False), 5, 0, 8, share=(rank, 4)))
        for rank in range(4)
    ]
    for step, (number, x, y) in enumerate(whole):
        assert all(share[step][0] == number for share in shares)
        assert torch.equal(torch.cat([share[step][1] for share in shares]), x)
        assert torch.equal(torch.cat([share[step][2] for share in shares]), y)


def test_parts_are_the_batch_in_order() -> None:
    x, y = torch.randn(10, 1, 2, 2), torch.arange(10)
    parts = list(cut(x, y, 3))
    assert [len(own) for own, _ in parts] == [4, 3, 3]
    assert torch.equal(torch.cat([own for own, _ in parts]), x)
    assert torch.equal(torch.cat([labels for _, labels in parts]), y)


def test_one_image_under_batch_norm_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size: a part of the batch has one image"):
        check_parts(toy_net(), 1, synchronized=False)
    with pytest.raises(ConfigError, match="accumulate: a step has more parts than images"):
        check_parts(toy_net(), 0, synchronized=False)
    check_parts(toy_net(), 2, synchronized=False)
    check_parts(toy_net(), 1, synchronized=True)
    check_parts(nn.Linear(2, 2), 1, synchronized=False)
