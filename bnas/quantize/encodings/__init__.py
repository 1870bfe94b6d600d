"""Encodings: the grids of a network's tensors, found on calibration images, for AIMET and QNN."""

from __future__ import annotations

from bnas.quantize.encodings.aimet import Aimet
from bnas.quantize.encodings.grids import Grid
from bnas.quantize.encodings.placement import Placement, place
from bnas.quantize.encodings.ranges import MinMax, Percentile, Sqnr

__all__ = ["Aimet", "Grid", "MinMax", "Percentile", "Placement", "Sqnr", "place"]
