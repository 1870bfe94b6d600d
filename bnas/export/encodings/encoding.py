"""An encoding: the grid of numbers that a tensor is quantized to; and a network together with all of its encodings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import Tensor

from bnas.errors import ExportError

Array = np.ndarray[Any, np.dtype[Any]]
Form = Literal["int", "float"]
_FLOAT32 = np.finfo(np.float32)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """The grid of the ONNX tensor `name`: `scale`·(`offset` + q) for q from 0 to `steps`, or float16.

    `scale` and `offset` hold one number, or one for each channel along `axis`. `offset` is 0 or less, also where the
    numbers are stored with a sign; zero is always on the grid. `symmetric`: about zero, as far as an odd number of
    steps allows, and stored with a sign; `strict`: one step less, so that it is so exactly. `form` "float" is float16
    and has none of these.

    Raises:
        ExportError: a scale is not finite and above zero, or there is not one, with an offset, for all or each channel.
    """

    name: str
    bits: int = 8
    form: Form = "int"
    symmetric: bool = False
    strict: bool = False
    scale: tuple[float, ...] = ()
    offset: tuple[int, ...] = ()
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.form == "float":
            return
        wrong = [scale for scale in self.scale if not _FLOAT32.tiny <= scale <= _FLOAT32.max]
        if wrong:
            raise ExportError(
                f"encodings: '{self.name}': expected scales above 0 in float32, got {wrong[0]:g}"
            )
        if len(self.scale) != len(self.offset) or (len(self.scale) != 1 and self.axis is None):
            raise ExportError(
                f"encodings: '{self.name}': expected a scale and an offset for all or for each channel, got "
                f"{len(self.scale)} and {len(self.offset)}"
            )

    @property
    def steps(self) -> int:
        """How many steps there are from the least number of the grid to the greatest."""
        return (1 << self.bits) - (2 if self.strict else 1)

    def fake_quantized(self, x: Array, *, half_up: bool = False) -> Array:
        """`x` (float32), each number replaced by the nearest of the grid.

        Halves go to the even one, as torch and ONNX have it. `half_up`: q = ⌊x / scale − offset + ½⌋ instead, with what
        float32 loses of x / scale by then, as AIMET's kernel for ONNX has it.
        """
        if self.form == "float":
            return x.astype(np.float16).astype(np.float32)
        # float32 has too few digits for the numbers of grids of more than 24 bits
        exact = np.dtype(np.float64 if self.bits > 24 and not half_up else np.float32)
        scale, offset = (self._along(x, values).astype(exact) for values in (self.scale, self.offset))
        numbers: Array = np.divide(x.astype(exact), scale)
        numbers = np.floor(numbers - offset + exact.type(0.5)) if half_up else np.rint(numbers) - offset
        made: Array = (np.clip(numbers, 0, exact.type(self.steps)) + offset) * scale
        return made.astype(np.float32)

    def _along(self, x: Array, values: tuple[float, ...]) -> Array:
        shape = [1] * x.ndim
        if self.axis is not None:
            shape[self.axis] = -1
        return np.reshape(np.asarray(values, dtype=np.float64), shape)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A network in FP32 and the encodings of its tensors, not yet written.

    `network` is an `onnx.ModelProto`, `state` the state dict of the module it was made of. `activations` and
    `parameters` hold the encodings, biases among the latter. `moved`: outputs of operations that only move or select
    numbers, and the tensor whose encoding is theirs as well. `modules`: for each module whose output, or input, is one
    tensor with an encoding, that tensor by "output" or "input". `images` were calibrated on; `options` is plain data
    of how, and `equalization` of what was done to the weights before (`bnas.quantize.equalize.Equalized.summary`).
    """

    network: Any = field(repr=False, compare=False)
    state: Mapping[str, Tensor] = field(repr=False, compare=False)
    activations: tuple[Encoding, ...]
    parameters: tuple[Encoding, ...]
    moved: Mapping[str, str]
    modules: Mapping[str, Mapping[str, str]]
    images: int
    options: Any
    equalization: Mapping[str, Any] = field(default_factory=dict)

    def encoding(self, name: str) -> Encoding:
        """That of the tensor called `name`. Raises ExportError when it has none."""
        for encoding in (*self.activations, *self.parameters):
            if encoding.name == name:
                return encoding
        raise ExportError(f"encodings: the tensor '{name}' has none")
