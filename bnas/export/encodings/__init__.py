"""Encodings of a quantized network's tensors, and their files in AIMET's formats."""

from __future__ import annotations

from bnas.export.encodings.encoding import Encoded, Encoding
from bnas.export.encodings.formats import VERSIONS, read, written, written_by_module
from bnas.export.encodings.simulate import simulated

__all__ = ["VERSIONS", "Encoded", "Encoding", "read", "simulated", "written", "written_by_module"]
