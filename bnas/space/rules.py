"""The user's rules: what may be elastic, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from bnas.errors import ConfigError, did_you_mean
from bnas.space.space import DIMS

DepthMode = Literal["first", "spread", "free"]


@dataclass(frozen=True, kw_only=True)
class SpaceRules:
    """What may be elastic.

    Patterns are shell patterns (`layer1.*`, `*.mlp.[03]`). They match names of layers, of blocks and of
    choices (`layer1.0.conv1.width`), and names of classes (`Linear`). A group of channels goes by the names
    and classes of all layers that write it.

    dims: the elastic dimensions, of `resolution`, `levels`, `depth`, `kernel` and `width`.
    width_ratios: shares of a group's channels that are offered, rounded to multiples of `width_multiple`.
        The full width always is.
    width_step: channels from one width to the next, instead of ratios; rounded up to the multiple.
    width_multiple: what widths are multiples of, besides whole units (heads, convolution groups). Where it
        is more than half of a layer's channels it is halved until it no longer is.
    width_min: least number of channels; what has no more stays as it is.
    depth_mode: which blocks of a stage stay when d do: the `first` d (Cai et al. 2020), d evenly `spread`
        ones, or any: with `free` every block is a choice of its own.
    depth_min: least number of blocks of a stage; with `free` they are the first ones.
    skip: blocks that may be skipped although they add nothing to their input, only keep its shape; of one
        inside another the outer. The channels before and after them then have one width.
    kernel_values: sizes that are offered where a layer can have them; the full size always is. Empty: all.
    resolutions: sizes of the input images in pixels; the example's always is. Empty: all that were traced.
    freeze: layers that keep their output channels and kernel, blocks that are never skipped, and choices
        that are not offered.
    values: the values of choices, instead of those above; the full one always is. A pattern that ends in a
        dimension (`*.kernel`, `layer1.depth`, `resolution`) is about choices of that dimension, any other
        about widths, in channels. Where several match, the last holds.
    min: least values, with patterns as in `values`; for widths instead of `width_min`.
    tie: lists of patterns; all widths that one list matches become one choice, and so do all kernels. They
        must have the same number of channels, or the same possible sizes.
    """

    dims: tuple[str, ...] = ("depth", "width")
    width_ratios: tuple[float, ...] = (0.5, 0.75, 1.0)
    width_step: int | None = None
    width_multiple: int = 8
    width_min: int = 1
    depth_mode: DepthMode = "first"
    depth_min: int = 0
    skip: tuple[str, ...] = ()
    kernel_values: tuple[int, ...] = ()
    resolutions: tuple[int, ...] = ()
    freeze: tuple[str, ...] = ()
    values: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    min: Mapping[str, int] = field(default_factory=dict)
    tie: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        for dim in self.dims:
            if dim not in DIMS:
                raise ConfigError(f"dims: no elastic dimension '{dim}'{did_you_mean(dim, DIMS)}")
        for ratio in self.width_ratios:
            if not 0 < ratio <= 1:
                raise ConfigError(f"width_ratios: expected numbers above 0 and up to 1, got {ratio}")
        if self.depth_mode not in get_args(DepthMode):
            allowed = " or ".join(get_args(DepthMode))
            raise ConfigError(f"depth_mode: expected {allowed}, got {self.depth_mode}")
        least = {"width_step": 1, "width_multiple": 1, "width_min": 1, "depth_min": 0}
        numbers = {name: getattr(self, name) for name in least}
        for name in ("kernel_values", "resolutions"):
            numbers |= {f"{name}[{index}]": value for index, value in enumerate(getattr(self, name))}
        for name, number in numbers.items():
            if number is not None and number < least.get(name, 1):
                raise ConfigError(f"{name}: expected at least {least.get(name, 1)}, got {number}")
