"""Quantization: a trained torch module to an INT8 network of the runtime."""

from __future__ import annotations

from bnas.callable_package import make_callable
from bnas.export import Quantized
from bnas.quantize.config import QUANTIZERS, QuantizeConfig, quantize, quantizer
from bnas.quantize.encodings import Aimet
from bnas.quantize.equalize import Equalize, Equalized, equalize
from bnas.quantize.nncf_config import NncfConfigRead, read_nncf_config
from bnas.quantize.nncf_fx import NncfPTQFx
from bnas.quantize.nncf_options import Ignored, RangeEstimator, TensorOptions
from bnas.quantize.nncf_ptq import NncfPTQ
from bnas.quantize.nncf_qat import NncfQAT
from bnas.quantize.nncf_torch import NncfPTQTorch
from bnas.quantize.onnx_qdq import OnnxQdq

__all__ = [
    "QUANTIZERS",
    "Aimet",
    "Equalize",
    "Equalized",
    "Ignored",
    "NncfConfigRead",
    "NncfPTQ",
    "NncfPTQFx",
    "NncfPTQTorch",
    "NncfQAT",
    "OnnxQdq",
    "QuantizeConfig",
    "Quantized",
    "RangeEstimator",
    "TensorOptions",
    "equalize",
    "quantize",
    "quantizer",
    "read_nncf_config",
]

make_callable(__name__)
