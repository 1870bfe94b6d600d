"""What is done to an image before the network sees it, as far as it can be built into the exported network.

The order is that of the Model Optimizer of old: the stored image is resized, its channels are reversed, and
`mean_values` are subtracted and `scale_values` divided by, both in the network's own order of channels.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from bnas.errors import ConfigError, ExportError
from bnas.export.openvino_runtime import last_line, openvino

Layout = Literal["NCHW", "NHWC"]
Resize = Literal["nearest", "linear", "cubic"]


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Pre-processing built into an artefact, which then takes images as they are stored.

    `mean_values` and `scale_values`, one for each channel (or one for all), are in the units of the input, so from 0 to
    255 for bytes; null is the normalisation of the run's data. `reverse_input_channels`: the input's are BGR, the
    network's RGB. `layout`: of the input. `u8`: it is bytes, else float32. `resize`: the input may have any height and
    width, and is brought to the network's by this method.
    """

    mean_values: tuple[float, ...] | None = None
    scale_values: tuple[float, ...] | None = None
    reverse_input_channels: bool = False
    layout: Layout = "NCHW"
    u8: bool = True
    resize: Resize | None = None

    def __post_init__(self) -> None:
        for value in self.scale_values or ():
            if value <= 0:
                raise ConfigError(f"scale_values: expected numbers above 0, got {value:g}")

    def completed(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocess:
        """With `mean` and `std`, of images between 0 and 1, where none are given."""
        mean_values = tuple(round(255 * value, 4) for value in mean)
        scale_values = tuple(round(255 * value, 4) for value in std)
        return replace(
            self,
            mean_values=mean_values if self.mean_values is None else self.mean_values,
            scale_values=scale_values if self.scale_values is None else self.scale_values,
        )

    def check(self, channels: int) -> None:
        """Raise ExportError where it does not fit a network of so many channels."""
        for option in ("mean_values", "scale_values"):
            values = getattr(self, option)
            if values is None:
                raise ExportError(f"export.preprocess.{option}: expected {channels} numbers, got none")
            if len(values) not in (1, channels):
                raise ExportError(
                    f"export.preprocess.{option}: expected {channels} numbers, or one, got {len(values)}"
                )
        if self.reverse_input_channels and channels != 3:
            raise ExportError(
                f"export.preprocess.reverse_input_channels: expected 3 channels, the network has {channels}"
            )

    def stored(self, images: Tensor) -> Tensor:
        """The images that `applied` makes normalised `images` [n, C, H, W] of, as nearly as bytes can say it."""
        raw = images * self._scale(images) + self._mean(images)
        if self.reverse_input_channels:
            raw = raw.flip(1)
        return raw.round().clamp(0, 255) if self.u8 else raw

    def applied(self, stored: Tensor) -> Tensor:
        """What the network sees of `stored` images [n, C, H, W] of its own size."""
        images = stored.float()
        if self.reverse_input_channels:
            images = images.flip(1)
        return (images - self._mean(images)) / self._scale(images)

    def _mean(self, images: Tensor) -> Tensor:
        return torch.tensor(self.mean_values or (0.0,), dtype=images.dtype).reshape(1, -1, 1, 1)

    def _scale(self, images: Tensor) -> Tensor:
        return torch.tensor(self.scale_values or (1.0,), dtype=images.dtype).reshape(1, -1, 1, 1)


def build_in(model: Any, preprocess: Preprocess) -> Any:
    """`model` (an `openvino.Model` with one input [n, C, H, W], which is changed) with `preprocess` before it.

    Raises:
        ExportError: the network is no network on images, or `preprocess` does not fit it.
    """
    shape = model.inputs[0].partial_shape
    if len(model.inputs) != 1 or shape.rank.is_dynamic or len(shape) != 4 or shape[1].is_dynamic:
        found = ", ".join(str(each.partial_shape) for each in model.inputs)
        raise ExportError(
            f"export.preprocess: expected a network on images [n, C, H, W], its inputs are {found}"
        )
    channels = shape[1].get_length()
    preprocess.check(channels)
    ov, steps_of = openvino(), importlib.import_module("openvino.preprocess")
    whole = steps_of.PrePostProcessor(model)
    stored = whole.input(0).tensor()
    stored.set_layout(ov.Layout(preprocess.layout))
    stored.set_element_type(ov.Type.u8 if preprocess.u8 else ov.Type.f32)
    whole.input(0).model().set_layout(ov.Layout("NCHW"))
    steps = whole.input(0).preprocess()
    steps.convert_element_type(ov.Type.f32)
    if preprocess.resize is not None:
        stored.set_spatial_dynamic_shape()
        steps.resize(getattr(steps_of.ResizeAlgorithm, f"RESIZE_{preprocess.resize.upper()}"))
    if preprocess.reverse_input_channels:
        steps.reverse_channels()
    steps.mean(_each(preprocess.mean_values, channels))
    steps.scale(_each(preprocess.scale_values, channels))
    try:
        return whole.build()
    except RuntimeError as error:
        raise ExportError(f"export.preprocess: OpenVINO cannot build it in: {last_line(error)}") from error


def _each(values: tuple[float, ...] | None, channels: int) -> list[float]:
    """One value for each channel; `check` has seen to it that there are some."""
    assert values is not None
    return list(values) * (channels // len(values))
