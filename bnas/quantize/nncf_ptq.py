"""Post-training quantization to INT8 by NNCF, on the OpenVINO graph: fast, and needs no compiler."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from types import ModuleType
from typing import Any, Literal

import numpy as np
import rich
from torch import Tensor, nn

from bnas.errors import ExportError, require
from bnas.export import Quantized, convert
from bnas.export.openvino_runtime import last_line, without_telemetry
from bnas.quantize.config import QuantizeConfig, quantizer
from bnas.quantize.mixed import convert_mixed, of_precision, take_weights
from bnas.space import Precisions


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
    module: nn.Module,
    config: NncfPTQ,
    calibration: Iterable[Tensor],
    example: Tensor,
    precisions: Precisions | None = None,
) -> Quantized:
    """INT8 weights per channel, INT8 activations; the network takes one image at a time.

    With `precisions` operations of FP32 parts are in NNCF's ignored scope. NNCF has one kind of weights for a whole
    network: where parts differ in it, the network is quantized twice, and those per tensor take weights, and biases, of
    the second.
    """
    images = list(islice(_single_images(calibration), config.samples))
    if not images:
        raise ExportError("quantize: no calibration images were given")
    if not precisions:
        return Quantized(model=_quantized(convert(module, example), config, images))
    model, operations = convert_mixed(module, example, precisions)
    ignored = of_precision(operations, "fp32")
    if ignored == operations.keys():
        return Quantized(model=model, precision="f32")
    per_tensor = of_precision(operations, "int8_tensor")
    alike = per_tensor | ignored == operations.keys()  # all that is quantized has its weights per tensor
    quantized = _quantized(model, config, images, ignored, per_tensor=alike)
    if per_tensor and not alike:
        other = _quantized(model, config, images, ignored, per_tensor=True)
        take_weights(quantized, other, per_tensor)
    if ignored:  # NNCF writes down their names, of which many are counted up by OpenVINO in each process
        whole = sorted(part for part, own in precisions.items() if own == "fp32")
        quantized.set_rt_info(str(whole), ["nncf", "quantization", "ignored_scope", "names"])
    return Quantized(model=quantized, operations=operations)


def _quantized(
    model: Any,
    config: NncfPTQ,
    images: list[np.ndarray],
    ignored: Set[str] = frozenset(),
    *,
    per_tensor: bool = False,
) -> Any:
    """`model`, which stays as it is, quantized without the operations `ignored`; weights per channel or per tensor."""
    nncf = _nncf()
    parameters = nncf.quantization.advanced_parameters
    weights = parameters.QuantizationParameters(per_channel=False) if per_tensor else None
    with _quiet("nncf", "torch.utils.cpp_extension"), without_telemetry():
        try:
            return nncf.quantize(
                model.clone(),
                nncf.Dataset(images),
                preset=nncf.QuantizationPreset(config.preset),
                subset_size=len(images),
                fast_bias_correction=config.bias_correction == "fast",
                ignored_scope=nncf.IgnoredScope(names=sorted(ignored), validate=False) if ignored else None,
                advanced_parameters=parameters.AdvancedQuantizationParameters(
                    disable_bias_correction=config.bias_correction == "none",
                    weights_quantization_params=weights,
                ),
            )
        except Exception as error:  # NNCF has no common class of errors
            raise ExportError(f"quantize: NNCF cannot quantize this network: {last_line(error)}") from error


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
