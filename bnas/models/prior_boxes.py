"""The prior boxes of SSD (Liu et al. 2016, section 2.2) as MLCommons' SSD-ResNet34 has them."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))  # of the sides of the boxes of each map, besides 1
SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)  # 21, 45, …, 315 of 300 pixels


def shapes(scale: float, next_scale: float, ratios: Sequence[float]) -> list[tuple[float, float]]:
    """Widths and heights of a map's boxes, as fractions of the image's: two squares, then two boxes of each ratio.

    The first square is `scale` wide, as large as the others in area, the second is between it and the next map's.
    """
    between = sqrt(scale * next_scale)
    found = [(scale, scale), (between, between)]
    for ratio in ratios:
        found += [(scale * sqrt(ratio), scale / sqrt(ratio)), (scale / sqrt(ratio), scale * sqrt(ratio))]
    return [(min(width, 1.0), min(height, 1.0)) for width, height in found]


def prior_boxes(
    sizes: Sequence[tuple[int, int]], scales: Sequence[float], device: torch.device | None = None
) -> Tensor:
    """The boxes [anchors, 4] of maps of `sizes` (heights, widths): x1, y1, x2, y2 as fractions of the image.

    Around the centre of each position; a map's boxes of one shape stand together, row by row.
    """
    found = []
    for (rows, columns), scale, following, ratios in zip(sizes, scales, scales[1:], RATIOS, strict=False):
        half = torch.tensor(shapes(scale, following, ratios), device=device)[:, None, None] / 2
        y = (torch.arange(rows, device=device) + 0.5) / rows
        x = (torch.arange(columns, device=device) + 0.5) / columns
        centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
        found.append(torch.cat([centres - half, centres + half], -1).flatten(0, 2))
    return torch.cat(found)
