"""Boxes as a detector's regressions of anchors, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_MOST = math.log(
    1000 / 16
)  # a box is at most so many times as wide as its anchor: exp of more would overflow


def encoded(boxes: Tensor, anchors: Tensor, weights: Sequence[float]) -> Tensor:
    """The regressions [..., 4] that make `boxes` [..., 4] of `anchors` [..., 4].

    Girshick et al. 2014, "Rich feature hierarchies for accurate object detection", appendix C: the shift of the
    centre in widths and heights of the anchor, and the logarithms of the ratios of widths and heights, times the
    weights. (10, 10, 5, 5) are the "variances" 0.1, 0.2 of SSD. Boxes x1, y1, x2, y2 are in any unit that both
    have, for each axis its own: as fractions of the image they have the regressions that they have in pixels.
    """
    centres, sizes = _centred(boxes)
    middles, sides = _centred(anchors)
    return torch.cat([(centres - middles) / sides, (sizes / sides).log()], -1) * anchors.new_tensor(weights)


def decoded(regressions: Tensor, anchors: Tensor, weights: Sequence[float]) -> Tensor:
    """The boxes [..., n, 4] that `regressions` [..., n, 4] make of `anchors` [n, 4], not clipped to the image.

    Of `encoded` the inverse, but that no box is more than 62.5 times as wide or high as its anchor.
    """
    middles, sides = _centred(anchors)
    unit = regressions / anchors.new_tensor(weights)
    centres, halves = unit[..., :2] * sides + middles, unit[..., 2:].clamp(max=_MOST).exp() * sides / 2
    return torch.cat([centres - halves, centres + halves], -1)


def _centred(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres [..., 2] and sizes [..., 2]."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low
