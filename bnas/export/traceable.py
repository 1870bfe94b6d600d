"""Networks as exporters, quantizers and runtimes take them: images in, tensors out."""

from __future__ import annotations

from copy import copy
from functools import cache

from torch import Tensor, nn

from bnas.detection import RawTensors, decoding_of, deployed


def traceable(module: nn.Module) -> nn.Module:
    """`module` itself or, of a detector, what computes the tensors of `RawTensors` with layers that are still called
    as they are in the detector, so that rules about layers fit both.

    It shares the detector's layers and weights; the detector stays as it is.
    """
    if decoding_of(module) is None or isinstance(module, _Deployed):
        return module
    if "forward" in vars(
        module
    ):  # a function of the instance's own, as NNCF puts there, which no class replaces
        return RawTensors(module).train(module.training)
    twin = copy(module)
    twin.__class__ = _class_of(type(module))  # type: ignore[arg-type]  # classes are hashable, whatever mypy says
    return twin


class _Deployed(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return deployed(super().forward(images))


@cache
def _class_of(detector: type[nn.Module]) -> type[nn.Module]:
    """Of the same name, which is part of the names of operations."""
    return type(detector.__name__, (_Deployed, detector), {"__module__": detector.__module__})
