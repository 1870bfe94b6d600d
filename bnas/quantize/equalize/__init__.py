"""Cross-layer equalization: weights whose channels have like ranges, so that one scale per tensor fits them."""

from __future__ import annotations

from bnas.callable_package import make_callable
from bnas.quantize.equalize.config import Absorbed, Equalize, Equalized, Folded, Scaled, Skipped
from bnas.quantize.equalize.steps import equalize

__all__ = ["Absorbed", "Equalize", "Equalized", "Folded", "Scaled", "Skipped", "equalize"]

make_callable(__name__)
