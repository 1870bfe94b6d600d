"""How to quantize, and the table of quantizers.

To add a quantizer: a frozen config dataclass derived from `QuantizeConfig` and a function under `@quantizer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from bnas.errors import ConfigError, ExportError, did_you_mean
from bnas.export import Quantized


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """How to quantize; each quantizer derives its own. `samples`: how many calibration images are used."""

    samples: int = 300

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"samples: expected 1 or more, got {self.samples}")


Quantizer = Callable[[nn.Module, Any, Iterable[Tensor], Tensor], Quantized]
Q = TypeVar("Q", bound=Quantizer)

QUANTIZERS: dict[type[QuantizeConfig], Quantizer] = {}


def quantizer(config: type[QuantizeConfig]) -> Callable[[Q], Q]:
    """Register the function that quantizes as `config` says."""

    def register(function: Q) -> Q:
        QUANTIZERS[config] = function
        return function

    return register


def quantize(
    module: nn.Module, config: QuantizeConfig, calibration: Iterable[Tensor], example: Tensor
) -> Quantized:
    """`module` (in eval mode; left as it is) quantized, with ranges from images like those it will see.

    `calibration` are batches of normalised images [n, C, H, W]; the first `config.samples` images are used.
    `example` is one input, [n, C, H, W].

    Raises:
        ExportError: the network cannot be converted or quantized, or there are no calibration images.
    """
    function = QUANTIZERS.get(type(config))
    if function is None:
        known = [cls.__name__ for cls in QUANTIZERS]
        raise ExportError(
            f"quantize: no quantizer for {type(config).__name__}{did_you_mean(type(config).__name__, known)}"
        )
    return function(module, config, calibration, example)
