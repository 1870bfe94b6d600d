"""The tiny detector with weights that make it sure of some boxes, though it has learnt nothing; and images for it."""

from __future__ import annotations

from typing import Literal

import torch
from oracles import randomize_norms
from tiny_detector import Rectangles, TinyDetector, tiny_detector
from torch import Tensor


def small_detector(scores: Literal["sigmoid", "softmax"] = "sigmoid") -> TinyDetector:
    """In eval mode; takes images [n, 3, 64, 64]."""
    net = tiny_detector(scores)
    randomize_norms(net)
    with torch.no_grad():
        for own in net.scores:
            own.weight.mul_(30)
            own.bias.fill_(-2)
    return net.eval()


def scenes(count: int, seed: int = 0, side: int = 64) -> Tensor:
    """Images [count, 3, side, side] with coloured rectangles."""
    images, _ = Rectangles(count, seed, side).batch(range(count))
    return images
