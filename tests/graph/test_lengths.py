"""Lengths that remember the axis that they are the length of."""

from __future__ import annotations

import copy

import torch

from bnas.graph.channels import fixed, freeze, variable
from bnas.graph.lengths import Length, labels_of, with_labels


def test_lengths_are_numbers() -> None:
    a, frozen = variable(8), variable(3)
    freeze(frozen, "a test")
    size = with_labels(torch.Size([2, 8, 3]), (fixed(2), a, frozen))
    assert size == (2, 8, 3)
    assert isinstance(size, torch.Size)
    assert [type(n) for n in size] == [int, Length, int]  # only what is elastic is worth remembering
    assert torch.zeros(2, 24).view(2, size[1], -1).shape == (2, 8, 3)
    assert type(size[1] // 2) is int
    assert type(copy.copy(size[1])) is int  # as pickling does
    assert with_labels(8, (a,)).label == a


def test_labels_of_sizes() -> None:
    a = variable(8)
    n = with_labels(8, (a,))
    assert labels_of((2, n, -1), 3) == [None, a, None]
    assert labels_of(((2, n, -1),), 3) == [None, a, None]
    assert labels_of(([n],), 1) == [a]
    assert labels_of((n,), 2) == [None, None]  # not a whole shape
