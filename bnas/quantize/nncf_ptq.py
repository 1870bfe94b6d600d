"""Post-training quantization to INT8 by NNCF, on the OpenVINO graph: fast, and needs no compiler."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from types import ModuleType
from typing import Literal

import numpy as np
import rich
from torch import Tensor, nn

from bnas.errors import ExportError, require
from bnas.export import Quantized, convert
from bnas.export.openvino_runtime import last_line, without_telemetry
from bnas.quantize.config import QuantizeConfig, quantizer


@dataclass(frozen=True, kw_only=True)
class NncfPTQ(QuantizeConfig):
    """NNCF's `quantize`.

    `preset`: "performance" quantizes activations symmetrically, "mixed" asymmetrically where they have both
    signs. `bias_correction`: shift biases so that layers keep their mean output, layer by layer ("fast"),
    or one after the other on what the layers before really give ("full", slow), or not at all ("none").
    """

    kind: Literal["nncf_ptq"] = "nncf_ptq"
    preset: Literal["performance", "mixed"] = "mixed"
    bias_correction: Literal["fast", "full", "none"] = "fast"


@quantizer(NncfPTQ)
def quantize_nncf_ptq(
    module: nn.Module, config: NncfPTQ, calibration: Iterable[Tensor], example: Tensor
) -> Quantized:
    """INT8 weights per channel, INT8 activations; the network takes one image at a time."""
    images = list(islice(_single_images(calibration), config.samples))
    if not images:
        raise ExportError("quantize: no calibration images were given")
    model, nncf = convert(module, example), _nncf()
    with _quiet("nncf", "torch.utils.cpp_extension"), without_telemetry():
        try:
            quantized = nncf.quantize(
                model,
                nncf.Dataset(images),
                preset=nncf.QuantizationPreset(config.preset),
                subset_size=len(images),
                fast_bias_correction=config.bias_correction == "fast",
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    disable_bias_correction=config.bias_correction == "none"
                ),
            )
        except Exception as error:  # NNCF has no common class of errors
            raise ExportError(f"quantize: NNCF cannot quantize this network: {last_line(error)}") from error
    return Quantized(model=quantized, precision="int8")


def _single_images(batches: Iterable[Tensor]) -> Iterator[np.ndarray]:
    for batch in batches:
        for image in batch.detach().float().cpu():
            yield image.unsqueeze(0).contiguous().numpy()


def _nncf() -> ModuleType:
    with _quiet("torch.utils.cpp_extension"), without_telemetry():
        return require("nncf", "openvino")


@contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    """Without NNCF's bars, which it draws on rich's own console, and without what these loggers warn of.

    torch's `cpp_extension` remarks that there is no CUDA, which nobody asked for here.
    """
    console = rich.get_console()
    levels = {name: logging.getLogger(name).level for name in loggers}
    quiet, console.quiet = console.quiet, True
    for name in loggers:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        console.quiet = quiet
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
