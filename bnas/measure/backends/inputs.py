"""Inputs for networks that are timed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def random_input(shape: Sequence[int]) -> Tensor:
    """Fixed random numbers of this shape: zeros would make some layers faster than they are."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0))
