"""Boxes: how they are stored beside images, computed by detectors, learnt, decoded and judged."""

from __future__ import annotations

from bnas.detection.outputs import Decoding, RawDetections, RawTensors, completing, decoding_of, deployed
from bnas.detection.targets import Boxes, packed, unpacked

__all__ = [
    "Boxes",
    "Decoding",
    "RawDetections",
    "RawTensors",
    "completing",
    "decoding_of",
    "deployed",
    "packed",
    "unpacked",
]
