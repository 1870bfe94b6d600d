from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from bnas.detection.coding import decoded, encoded

WEIGHTS = [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0), (1.0, 2.0, 3.0, 4.0)]


def boxes(count: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=rng) * 0.8
    return torch.cat([corner, corner + 0.02 + torch.rand(count, 2, generator=rng) * 0.5], 1)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_as_torchvision_codes_them(weights: tuple[float, ...]) -> None:
    coder, own, anchors = BoxCoder(weights), boxes(50, 1), boxes(50, 2)
    torch.testing.assert_close(encoded(own, anchors, weights), coder.encode_single(own, anchors))
    regressions = torch.randn(50, 4, generator=torch.Generator().manual_seed(3)) * 3
    torch.testing.assert_close(
        decoded(regressions, anchors, weights), coder.decode_single(regressions, anchors)
    )


def test_fractions_have_the_regressions_of_pixels() -> None:
    own, anchors, size = boxes(20, 1), boxes(20, 2), torch.tensor([640.0, 48.0, 640.0, 48.0])
    weights = WEIGHTS[1]
    torch.testing.assert_close(
        encoded(own, anchors, weights), encoded(own * size, anchors * size, weights), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("weights", WEIGHTS)
def test_decoding_is_the_inverse_for_batches(weights: tuple[float, ...]) -> None:
    own, anchors = boxes(60, 1).view(3, 20, 4), boxes(20, 2)
    torch.testing.assert_close(decoded(encoded(own, anchors, weights), anchors, weights), own)


def test_by_hand() -> None:
    anchor = torch.tensor([[0.2, 0.2, 0.4, 0.6]])  # centre .3, .4; 0.2 by 0.4
    box = torch.tensor([[0.3, 0.3, 0.7, 0.5]])  # centre .5, .4; 0.4 by 0.2
    expected = torch.tensor([[10.0, 0.0, 5 * math.log(2), -5 * math.log(2)]])
    torch.testing.assert_close(encoded(box, anchor, WEIGHTS[1]), expected, atol=1e-5, rtol=1e-5)


def test_sizes_are_finite_whatever_is_regressed() -> None:
    found = decoded(torch.full((1, 4), 1e4), torch.tensor([[0.0, 0.0, 0.1, 0.1]]), WEIGHTS[0])
    torch.testing.assert_close(
        found[:, 2:] - found[:, :2], torch.full((1, 2), 0.1 * 1000 / 16), rtol=1e-3, atol=0
    )
