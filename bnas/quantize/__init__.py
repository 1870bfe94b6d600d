"""Quantization: a trained torch module to an INT8 network of the runtime."""

from __future__ import annotations

from bnas.callable_package import make_callable
from bnas.export import Quantized
from bnas.quantize.config import QUANTIZERS, QuantizeConfig, quantize, quantizer
from bnas.quantize.nncf_ptq import NncfPTQ

__all__ = ["QUANTIZERS", "NncfPTQ", "QuantizeConfig", "Quantized", "quantize", "quantizer"]

make_callable(__name__)
