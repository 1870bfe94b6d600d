"""Lengths of axes that remember the axis: `b, n, c = x.shape; y.reshape(b, n, c)` says that y has x's channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from bnas.graph.channels import Parts, is_fixed


class Length(int):
    """The length of an axis with this label. What is computed from it is a plain number."""

    label: Parts

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (int(self),)


def with_labels(out: Any, labels: tuple[Parts, ...]) -> Any:
    """A `Size`, or one length (`labels` is then its own), in which the lengths of elastic axes remember them."""
    if isinstance(out, torch.Size):
        return torch.Size([_length(n, label) for n, label in zip(out, labels, strict=True)])
    return _length(out, labels[0])


def _length(n: int, label: Parts) -> int:
    if is_fixed(label):
        return n
    length = Length(n)
    length.label = label
    return length


def labels_of(sizes: Iterable[Any], ndim: int) -> list[Parts | None]:
    """The labels that the sizes of a result of `ndim` axes remember; None: a plain number."""
    flat: list[Any] = []
    for size in sizes:
        flat += size if isinstance(size, (tuple, list)) else [size]
    if len(flat) != ndim:
        return [None] * ndim
    return [size.label if isinstance(size, Length) else None for size in flat]
