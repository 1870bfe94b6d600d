"""NNCF 2 traced a detector with its pre-processing; here that is outside of what is quantized, and so are its names."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace

from torch import nn

from bnas.detection import decoding_of
from bnas.errors import ConfigError
from bnas.quantize.nncf_options import Ignored
from bnas.quantize.nncf_scopes import scope_of
from bnas.quantize.overflow import say_once

# What torchvision's GeneralizedRCNNTransform computes: normalises, resizes, puts images into a batch.
_FUNCTION = re.compile(r"(__(i?sub|i?truediv|getitem|setitem)__|interpolate|stack|pad|copy_|new_full)_\d+")
_MODULE = "transform"  # its name in torchvision's detectors; functions of the network itself do it in others


def without_preprocessing(ignored: Ignored, module: nn.Module) -> Ignored:
    """`ignored` without the scopes of a detector's pre-processing, which a line tells; else `ignored` itself."""
    if decoding_of(module) is None:
        return ignored
    outside = [scope for scope in ignored.scopes if _is_preprocessing(scope)]
    if not outside:
        return ignored
    say_once(
        f"quantize.ignored.scopes: {', '.join(outside)}: of the detector's pre-processing, which is not part of the "
        "network that is quantized, so nothing is to be ignored"
    )
    return replace(ignored, scopes=tuple(scope for scope in ignored.scopes if scope not in outside))


def _is_preprocessing(text: str) -> bool:
    with suppress(ConfigError):  # no such name, which is told where names are looked for
        scope = scope_of(text)
        own = scope.path.partition(".")[0]
        return own == _MODULE or (not own and bool(_FUNCTION.fullmatch(scope.call or "")))
    return False
