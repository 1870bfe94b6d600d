"""Post-training quantization by NNCF on the torch module, and the way of its result to an OpenVINO network.

NNCF's torch backend keeps the module whole and puts quantizers between its operations. So batch norms are still there
and can be adapted, and the quantizers can be trained on (`bnas.train.qat`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnas.errors import ConfigError, ExportError
from bnas.export import Quantized, convert
from bnas.export.openvino_runtime import last_line, without_telemetry
from bnas.graph.trace import eval_mode
from bnas.quantize.config import quantizer
from bnas.quantize.nncf_backend import images_of, nncf_torch, quiet
from bnas.quantize.nncf_extension import arithmetic
from bnas.quantize.nncf_ignored import torch_scope
from bnas.quantize.nncf_options import NncfOptions, nncf_arguments, refusal, say_notes

ADAPTED_AT_ONCE = 64  # images of one pass when batch norms are adapted


@dataclass(frozen=True, kw_only=True)
class TorchPTQ(NncfOptions):
    """Options of NNCF's torch backend, which has neither the bias correction "full" nor the device "cpu_spr".

    With `bn_adaptation_samples` batch norms get new statistics on so many of the calibration images once quantizers
    are in place (NNCF 2's `batchnorm_adaptation`). It stands in for the bias correction, which would be done twice.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bias_correction == "full":
            raise ConfigError(
                "bias_correction: NNCF has no full for torch modules; take fast, or quantize=nncf_ptq"
            )
        if self.target_device == "cpu_spr":
            raise ConfigError(
                "target_device: NNCF has no cpu_spr for torch modules; take cpu, or quantize=nncf_ptq"
            )
        if self.precisions:
            raise ConfigError("precisions: of blocks they can be chosen with quantize=nncf_ptq only")


@dataclass(frozen=True, kw_only=True)
class NncfPTQTorch(TorchPTQ):
    """NNCF's `quantize` on the torch module, then converted: as any INT8 network of OpenVINO's from there on."""

    kind: Literal["nncf_ptq_torch"] = "nncf_ptq_torch"


@quantizer(NncfPTQTorch)
def quantize_nncf_ptq_torch(
    module: nn.Module, config: NncfPTQTorch, calibration: Iterable[Tensor], example: Tensor
) -> Quantized:
    """INT8 weights per channel, INT8 activations; the network takes one image at a time. Nothing is compiled for it."""
    return to_openvino(quantized_module(module, config, calibration, example), example)


def quantized_module(
    module: nn.Module, config: TorchPTQ, calibration: Iterable[Tensor], example: Tensor
) -> nn.Module:
    """A copy of `module`, on the CPU and in eval mode, with NNCF's quantizers, their ranges from the images.

    Raises:
        ExportError: NNCF cannot quantize it, there are no images, images or weights are not what they should be, or a
            rule about what is ignored names nothing.
        MissingPackageError: `nncf` or `torchao` is not installed.
    """
    nncf, adapted = nncf_torch(), config.bn_adaptation_samples or 0
    images = images_of(calibration, max(config.samples, adapted), example)
    say_notes(config, example)
    arguments = nncf_arguments(nncf, config)
    arguments["fast_bias_correction"] = True  # the only one there is; another argument turns it off
    if adapted:
        arguments["advanced_parameters"].disable_bias_correction = True
    with quiet("nncf"), without_telemetry(), arithmetic("cpu", "never"):
        scope = torch_scope(nncf, module, images[0], config.ignored)
        try:
            quantized: nn.Module = nncf.quantize(
                deepcopy(module).cpu(),
                nncf.Dataset(images[: config.samples]),
                subset_size=len(images[: config.samples]),
                ignored_scope=scope,
                **arguments,
            )
        except Exception as error:  # NNCF has no common class of errors
            why = f"{last_line(error)}; quantize=nncf_ptq does it on the OpenVINO graph"
            raise refusal(error, config, why) from error
        if adapted:
            adapt_norms(quantized, images[:adapted])
    return quantized.eval()


def adapt_norms(module: nn.Module, images: list[Tensor]) -> None:
    """Set the statistics of batch norms to their averages over the images, of passes of equally many.

    As NNCF 2's `batchnorm_adaptation`, but with the plain average instead of a moving one.
    """
    norms = [
        norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.running_mean is not None
    ]
    passes = max(1, len(images) // ADAPTED_AT_ONCE)
    momenta = [norm.momentum for norm in norms]
    with eval_mode(module), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's word for the cumulative average
            norm.train()
        for number in range(passes if norms else 0):
            module(torch.cat(images[number::passes]))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def to_openvino(quantized: nn.Module, example: Tensor) -> Quantized:
    """A module with NNCF's quantizers (stays as it is) as an INT8 network of OpenVINO's that takes one image.

    Raises:
        ExportError: it cannot be converted.
    """
    nncf, image = nncf_torch(), example[:1].cpu()
    with quiet("nncf"), without_telemetry(), arithmetic("cpu", "never"):
        try:
            stripped = nncf.strip(quantized, example_input=image)
        except Exception as error:
            raise ExportError(
                f"quantize: NNCF cannot give its quantizers to torch: {last_line(error)}"
            ) from error
        return Quantized(model=convert(stripped.eval(), image))


def structure_of(quantized: nn.Module) -> dict[str, Any]:
    """Which quantizers a module has and where, as plain data; their ranges are in its state dict."""
    with quiet("nncf"), without_telemetry():
        structure: dict[str, Any] = _plain(nncf_torch().torch.get_config(quantized))
    return structure


def with_structure(module: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
    """`module` itself with the quantizers of `structure_of`; their ranges have to be loaded from a state dict."""
    with quiet("nncf"), without_telemetry():
        restored: nn.Module = nncf_torch().torch.load_from_config(module, structure)
    return restored.eval()


def _plain(x: Any) -> Any:
    """`x` without enumerations, which `torch.load` would refuse; tuples stay tuples, for shapes."""
    if isinstance(x, Enum):
        return x.value
    if isinstance(x, Mapping):
        return {key: _plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x)(map(_plain, x))
    return x
