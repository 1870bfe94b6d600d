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
from bnas.export.openvino_ir import OpenVinoIR, convert
from bnas.export.verify import verify

__all__ = [
    "EXPORTERS",
    "Artefact",
    "ExportConfig",
    "OpenVinoIR",
    "Precision",
    "Quantized",
    "check_digest",
    "convert",
    "export",
    "exporter",
    "verify",
]

make_callable(__name__)
