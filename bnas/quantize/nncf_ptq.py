"""Post-training quantization to INT8 by NNCF, on the OpenVINO graph: fast, and needs no compiler."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
import rich
from torch import Tensor, nn

from bnas.errors import ConfigError, require
from bnas.export import Quantized
from bnas.export.openvino_runtime import last_line, without_telemetry
from bnas.quantize.calibration import calibration_images
from bnas.quantize.config import quantizer
from bnas.quantize.ignored import converted
from bnas.quantize.mixed import of_precision, take_weights
from bnas.quantize.nncf_options import NncfOptions, nncf_arguments, refusal, say_notes
from bnas.quantize.ranges import begin_at_zero
from bnas.space import Precisions


@dataclass(frozen=True, kw_only=True)
class NncfPTQ(NncfOptions):
    """NNCF's `quantize` on the OpenVINO graph, where batch norms are part of the convolutions before them."""

    kind: Literal["nncf_ptq"] = "nncf_ptq"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bn_adaptation_samples:
            raise ConfigError(
                "bn_adaptation_samples: expected 0 or null on the OpenVINO graph, which has no batch norms any more, "
                f"got {self.bn_adaptation_samples}; quantize=nncf_ptq_torch and quantize=nncf_qat adapt them"
            )
        if self.precisions and self.weights.per_channel is not None:
            raise ConfigError(
                "weights.per_channel: expected null where precisions are chosen from, which say it"
            )


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
    images = calibration_images(calibration, config.samples, example)
    say_notes(config, example)
    model, operations = converted(module, example, config, precisions)
    if not operations:
        return Quantized(model=_quantized(model, config, images))
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
        rules = config.ignored
        whole = [part for part, own in (precisions or {}).items() if own == "fp32"]
        whole += [*rules.names, *rules.types, *rules.patterns, *rules.scopes]
        quantized.set_rt_info(str(sorted(whole)), ["nncf", "quantization", "ignored_scope", "names"])
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
    arguments = nncf_arguments(nncf, config, per_tensor=per_tensor)
    with _quiet("nncf", "torch.utils.cpp_extension"), without_telemetry():
        try:
            quantized = nncf.quantize(
                model.clone(),
                nncf.Dataset(images),
                subset_size=len(images),
                ignored_scope=nncf.IgnoredScope(names=sorted(ignored), validate=False) if ignored else None,
                **arguments,
            )
        except Exception as error:  # NNCF has no common class of errors
            raise refusal(error, config, last_line(error)) from error
    begin_at_zero(quantized)
    return quantized


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
