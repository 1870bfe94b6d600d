"""Runtimes that can run a network on this machine: one table, one entry each.

To add a runtime: a module with `prepare` and `throughput_per_s`, and one line in `BACKENDS`. A plugin enters
its own: `BACKENDS["mine"] = Backend(prepare=..., throughput_per_s=...)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

from bnas.errors import MeasureError, did_you_mean
from bnas.export import Quantized
from bnas.measure.backends import openvino

if TYPE_CHECKING:
    from bnas.measure.hardware import HwConfig

Network = nn.Module | Quantized | Path
"""A module in eval mode, a quantized network, or the path of an artefact."""


class Runner(Protocol):
    """A network ready to run: called, it does one inference on a fixed input of `hw.batch` images."""

    def __call__(self) -> None: ...

    def predict(self, images: Tensor) -> Tensor:
        """Outputs [n, ...] for any number of images [n, C, H, W]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One runtime. `prepare` may read the input's shape from an example; an artefact needs none."""

    prepare: Callable[[Network, HwConfig, Tensor | None], Runner]
    throughput_per_s: Callable[[Network, HwConfig, float, Tensor | None], float]


BACKENDS: dict[str, Backend] = {
    "openvino": Backend(prepare=openvino.prepare, throughput_per_s=openvino.throughput_per_s),
}


def prepare(network: Network, hw: HwConfig, example: Tensor | None = None) -> Runner:
    """`network` compiled for `hw`; `example` [n, C, H, W] is needed for a module.

    Raises:
        MeasureError: there is no such backend, or the network does not run in it.
    """
    return _backend(hw).prepare(network, hw, example)


def throughput_per_s(
    network: Network, hw: HwConfig, seconds: float = 3.0, example: Tensor | None = None
) -> float:
    """Images per second when many inferences run at once: the median of several windows, `seconds` in all."""
    return _backend(hw).throughput_per_s(network, hw, seconds, example)


def _backend(hw: HwConfig) -> Backend:
    if hw.backend not in BACKENDS:
        raise MeasureError(f"hw.backend: no such backend '{hw.backend}'{did_you_mean(hw.backend, BACKENDS)}")
    return BACKENDS[hw.backend]
