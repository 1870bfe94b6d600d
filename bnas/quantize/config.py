"""How to quantize, and the table of quantizers.

To add a quantizer: a frozen config dataclass derived from `QuantizeConfig` and a function under `@quantizer`. One that
can treat parts of a network differently takes `precisions` as a fifth argument.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from torch import Tensor, nn

from bnas.detection import decoding_of
from bnas.errors import ConfigError, ExportError, did_you_mean
from bnas.export import Quantized, convert
from bnas.export.traceable import traceable
from bnas.plain import to_plain
from bnas.quantize.damage import check_weights
from bnas.quantize.mixed import check_precisions
from bnas.space import Precision, Precisions


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """How to quantize; each quantizer derives its own.

    `samples`: how many calibration images are used. `precisions`: two or more of `bnas.space.PRECISIONS`, among which
    measure and search choose for each block; none: all is INT8.
    """

    samples: int = 300
    precisions: tuple[Precision, ...] = field(default=(), metadata={"plain": "unless default"})

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"samples: expected 1 or more, got {self.samples}")
        if len(set(self.precisions)) == 1:
            raise ConfigError(
                f"precisions: expected two or more to choose from, or none, got {self.precisions[0]}"
            )

    @property
    def timed(self) -> object:
        """Plain data of what decides how fast quantized networks are: all options, where nothing else is known."""
        return to_plain(self)


Quantizer = Callable[..., Quantized]
Q = TypeVar("Q", bound=Quantizer)

QUANTIZERS: dict[type[QuantizeConfig], Quantizer] = {}


def quantizer(config: type[QuantizeConfig]) -> Callable[[Q], Q]:
    """Register the function that quantizes as `config` says."""

    def register(function: Q) -> Q:
        QUANTIZERS[config] = function
        return function

    return register


def quantize(
    module: nn.Module,
    config: QuantizeConfig,
    calibration: Iterable[Tensor],
    example: Tensor,
    *,
    precisions: Precisions | None = None,
) -> Quantized:
    """`module` (in eval mode; left as it is) quantized, with ranges from images like those it will see.

    `calibration` are batches of normalised images [n, C, H, W]; the first `config.samples` images are used.
    `example` is one input, [n, C, H, W]. `precisions`: those of parts of the module, by their paths, as `precisions_of`
    tells them; what they do not name is INT8 as usual. Where all is FP32 it is converted as it is. A detector is
    quantized as what `bnas.detection.RawTensors` computes, without decoding.

    Raises:
        ExportError: the network cannot be converted or quantized, there are no calibration images, `precisions` do not
            fit the module, or the quantizer knows one precision only.
    """
    function = QUANTIZERS.get(type(config))
    if function is None:
        known = [cls.__name__ for cls in QUANTIZERS]
        raise ExportError(
            f"quantize: no quantizer for {type(config).__name__}{did_you_mean(type(config).__name__, known)}"
        )
    check_weights(module)
    quantized = _quantized(function, traceable(module), config, calibration, example, precisions)
    return quantized if decoding_of(module) is None else replace(quantized, detector=module)


def _quantized(
    function: Quantizer,
    module: nn.Module,
    config: QuantizeConfig,
    calibration: Iterable[Tensor],
    example: Tensor,
    precisions: Precisions | None,
) -> Quantized:
    if not precisions:
        return function(module, config, calibration, example)
    check_precisions(module, precisions)
    if "" in precisions and set(precisions.values()) == {"fp32"}:
        return Quantized(model=convert(module, example), precision="f32")
    if "precisions" not in inspect.signature(function).parameters:
        raise ExportError(f"quantize: {type(config).__name__} quantizes all of a network alike, not by parts")
    return function(module, config, calibration, example, precisions)
