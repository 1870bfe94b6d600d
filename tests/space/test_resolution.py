from __future__ import annotations

from dataclasses import replace

import torch
from graphs import GRAPH, TOWER

from bnas.space import SpaceRules, derive_space, possible_sizes, resized, resolution_of


def test_possible_sizes_end_with_the_examples_own() -> None:
    assert possible_sizes(GRAPH) == ()
    assert possible_sizes(TOWER) == (24, 32, 48)
    assert possible_sizes(replace(TOWER, input_shapes=((1, 3, 28, 28),))) == (24, 28)


def test_resolution_of() -> None:
    space = derive_space(TOWER, SpaceRules(dims=("resolution",), resolutions=(32,)))
    assert resolution_of(space.largest) == 48
    assert resolution_of(space.smallest) == 32
    assert resolution_of(derive_space(TOWER).largest) is None
    assert resolution_of(None) is None


def test_resized() -> None:
    """Halving with antialiasing keeps the mean of a fine grid of lines; without it, lines would be lost."""
    images = torch.zeros(2, 3, 16, 16)
    images[..., ::2] = 1.0
    assert resized(images, None) is images
    assert resized(images, 16) is images
    small = resized(images, 8)
    assert small.shape == (2, 3, 8, 8)
    assert torch.allclose(small[..., 2:-2, 2:-2], torch.full((2, 3, 4, 4), 0.5), atol=0.01)
    assert resized(torch.full((1, 1, 5, 5), 0.25), 3).allclose(torch.full((1, 1, 3, 3), 0.25))
