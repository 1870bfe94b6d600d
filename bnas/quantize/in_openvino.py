"""The quantizer of a run where it times and judges networks in OpenVINO, whatever it deploys them in."""

from __future__ import annotations

from dataclasses import fields

from bnas.quantize.config import QuantizeConfig
from bnas.quantize.encodings import Aimet
from bnas.quantize.nncf_fx import NncfPTQFx
from bnas.quantize.nncf_options import NncfOptions
from bnas.quantize.nncf_ptq import NncfPTQ
from bnas.quantize.onnx_qdq import OnnxQdq


def for_openvino(config: QuantizeConfig) -> QuantizeConfig:
    """NncfPTQ with the options of a quantizer whose networks other runtimes run; else `config` itself."""
    if isinstance(config, Aimet):
        return NncfPTQ(samples=config.samples)
    if not isinstance(config, NncfPTQFx | OnnxQdq):
        return config
    shared = {option.name: getattr(config, option.name) for option in fields(NncfOptions)}
    return NncfPTQ(**(shared | {"nncf_config": None}))  # what that file says is in the options
