"""Elastic kernels: the centre of a convolution's kernel, with as much less padding.

Optionally the centre is transformed, step by step from each size to the next smaller one, by a learned
matrix that all channels of a layer share (Cai et al. 2020, "Once-for-All", §3.3: elastic kernel size).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnas.graph.facts import ChannelGraph, Layer
from bnas.supernet.elastic import WHOLE, Cut, Index, Slices, apply_cut, make_cut

_KERNEL_ATTRIBUTES = ("kernel_size", "padding", "_reversed_padding_repeated_twice")


def sides(kernel: tuple[int, ...], size: int) -> tuple[int, ...]:
    """The sides of the centre crop of `kernel` whose largest side is `size`."""
    return tuple(min(side, size) for side in kernel)


def crop(kernel: tuple[int, ...], size: int) -> Slices:
    """Where the centre crop lies in `kernel`, one range per side."""
    return tuple(
        slice((side - new) // 2, (side + new) // 2)
        for side, new in zip(kernel, sides(kernel, size), strict=True)
    )


def transform_name(layer: str, larger: int, smaller: int) -> str:
    """The name of the matrix from the kernel of one size to the next smaller one."""
    return f"{layer.replace('.', '/')}/{larger}to{smaller}"


def make_transforms(graph: ChannelGraph, layers: set[str]) -> nn.ParameterDict:
    """An identity matrix [n, n] for each step from a kernel size to the next, of n = its sides' product."""
    return nn.ParameterDict(
        {
            transform_name(layer.name, larger, smaller): nn.Parameter(
                torch.eye(prod(sides(layer.kernel, smaller)))
            )
            for layer in graph.layers
            if layer.name in layers
            for smaller, larger in zip(layer.kernels, layer.kernels[1:], strict=False)
        }
    )


class Transformed:
    """The cut of a weight by `channels`, then by each step's ranges (of all axes) and matrix."""

    def __init__(self, channels: Cut | None, steps: tuple[tuple[Slices, nn.Parameter], ...]) -> None:
        self.channels, self.steps = channels, steps

    def __call__(self, weight: Tensor) -> Tensor:
        weight = apply_cut(weight, self.channels)
        for window, matrix in self.steps:
            centre = weight[window]
            weight = F.linear(centre.flatten(2), matrix.to(centre)).reshape(centre.shape)
        return weight


def cropped(
    layer: Layer, size: int, channels: tuple[Index | None, ...], transforms: nn.ParameterDict
) -> Cut | None:
    """The cut of a weight [O, I, …] to the `channels` (one index per axis) and the kernel of `size`.

    With `transforms` (empty: none) the kernel is the transformed one.
    """
    if not transforms:
        window = crop(layer.kernel, size) if size < max(layer.kernel) else ()
        return make_cut((*channels[:2], *window))
    steps = []
    for larger, smaller in zip(reversed(layer.kernels), reversed(layer.kernels[:-1]), strict=False):
        if smaller < size:
            break
        window = (WHOLE, WHOLE, *crop(sides(layer.kernel, larger), smaller))
        steps.append((window, transforms[transform_name(layer.name, larger, smaller)]))
    cut = make_cut(channels[:2])
    return Transformed(cut, tuple(steps)) if steps else cut


def kernel_attributes(layer: Layer, own: Mapping[str, Any], size: int) -> dict[str, Any]:
    """What a convolution says about its kernel and padding when the kernel is cropped to `size`.

    `own` is the `__dict__` of the convolution with the whole kernel. `padding="same"` computes its own.
    """
    new = sides(layer.kernel, size)
    if new == layer.kernel:
        return {name: own[name] for name in _KERNEL_ATTRIBUTES}
    padding = own["padding"]
    if isinstance(padding, tuple):
        spare = [
            (side - short) // 2 * wide
            for side, short, wide in zip(layer.kernel, new, own["dilation"], strict=True)
        ]
        padding = tuple(have - need for have, need in zip(padding, spare, strict=True))
    around = own["_reversed_padding_repeated_twice"]
    if isinstance(padding, tuple):
        around = type(around)(n for n in reversed(padding) for _ in (0, 1))
    return dict(zip(_KERNEL_ATTRIBUTES, (new, padding, around), strict=True))
