"""Quantization-aware training: what is asked for. The training itself is `bnas.train.qat`, which has the images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from torch import Tensor, nn

from bnas.errors import ConfigError
from bnas.export import Quantized
from bnas.quantize.config import quantizer
from bnas.quantize.nncf_extension import Extension
from bnas.quantize.nncf_torch import TorchPTQ, quantized_module, to_openvino


@dataclass(frozen=True, kw_only=True)
class NncfQAT(TorchPTQ):
    """Fine-tuning with quantizers in place, from where NNCF's post-training quantization leaves the torch module.

    Weights and the quantizers' ranges are trained together, on the labels and on what the FP32 network says: its
    share of the loss is `distill`, at `temperature` (Hinton et al. 2015). A network that does not gain by it on
    the validation images stays as the post-training quantization left it.

    `epochs`, `lr`, `lr_end`, `warmup_epochs`, `schedule`, `batch_size`, `momentum`, `weight_decay` (of weights, never
    of ranges), `clip_norm`, `label_smoothing`, `augment`, `accumulate`, `device`, `checkpoint_seconds`: as of
    `finetune`. `extension`: as of `bnas.quantize.nncf_extension.arithmetic`.
    """

    kind: Literal["nncf_qat"] = "nncf_qat"
    epochs: float = 2.0
    lr: float = 1e-3
    lr_end: float = 0.0
    warmup_epochs: float = 0.0
    schedule: str = "cosine"
    batch_size: int = 128
    accumulate: int = 1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    distill: float = 0.5
    temperature: float = 1.0
    augment: bool = True
    device: str = "auto"
    checkpoint_seconds: float = 60.0
    extension: Extension = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isfinite(self.epochs) and self.epochs > 0):
            raise ConfigError(
                f"epochs: expected more than 0, got {self.epochs}; quantize=nncf_ptq_torch does without"
            )
        if not (isfinite(self.lr) and self.lr > 0):
            raise ConfigError(f"lr: expected more than 0, got {self.lr}")
        if not 0 <= self.distill <= 1:
            raise ConfigError(f"distill: expected 0 to 1, got {self.distill}")


@quantizer(NncfQAT)
def quantize_nncf_qat(
    module: nn.Module, config: NncfQAT, calibration: Iterable[Tensor], example: Tensor
) -> Quantized:
    """What the training begins with: for timing, which depends on where quantizers are and not on their ranges."""
    return to_openvino(quantized_module(module, config, calibration, example), example)
