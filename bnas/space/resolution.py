"""The size of the input images as a choice: which sizes there are, and images made of that size."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bnas.graph.facts import ChannelGraph
from bnas.graph.trace import resized_inputs
from bnas.space.config import SubnetConfig

RESOLUTION = "resolution"  # the name of the choice, of which a space has at most one


def possible_sizes(graph: ChannelGraph) -> tuple[int, ...]:
    """Sizes that were traced, ascending; the last is the example's own. Empty where none were."""
    sizes = {resolution.size for resolution in graph.resolutions}
    shape = graph.input_shapes[0] if graph.input_shapes else ()
    if not sizes or len(shape) < 3:
        return tuple(sorted(sizes))
    own = shape[-1]
    return tuple(sorted({own, *(size for size in sizes if size < own)}))


def resolution_of(config: SubnetConfig | None) -> int | None:
    """The size of the images that `config` is for; None where it has no such choice: as they are."""
    return None if config is None else config.values.get(RESOLUTION)


def resized(images: Any, size: int | None) -> Any:
    """Images [..., C, H, W], or nested inputs with such, as [..., C, size, size]; None: as they are.

    By antialiased bilinear interpolation, as the output sizes of `graph.resolutions` were found.
    """
    if size is None or (isinstance(images, Tensor) and images.shape[-2:] == (size, size)):
        return images
    return resized_inputs(images, size)
