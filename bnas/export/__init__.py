"""Export: a torch module, or a quantized network, as a verified file that a runtime loads."""

from __future__ import annotations

from bnas.callable_package import make_callable
from bnas.export.artefact import (
    EXPORTERS,
    Artefact,
    ExportConfig,
    Precision,
    Quantized,
    check_digest,
    export,
    exporter,
)
from bnas.export.encodings.aimet import AimetEncodings
from bnas.export.onnx import Onnx
from bnas.export.openvino_ir import OpenVinoIR, convert
from bnas.export.preprocess import Preprocess
from bnas.export.run import load, load_all
from bnas.export.torch_export import TorchExport
from bnas.export.torchscript import TorchScript
from bnas.export.traceable import traceable
from bnas.export.verify import export_verified, verify

__all__ = [
    "EXPORTERS",
    "AimetEncodings",
    "Artefact",
    "ExportConfig",
    "Onnx",
    "OpenVinoIR",
    "Precision",
    "Preprocess",
    "Quantized",
    "TorchExport",
    "TorchScript",
    "check_digest",
    "convert",
    "export",
    "export_verified",
    "exporter",
    "load",
    "load_all",
    "traceable",
    "verify",
]

make_callable(__name__)
