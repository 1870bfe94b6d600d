"""Rules for feature pyramids (Lin et al. 2017): who feeds them, and who must know which levels there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from bnas.graph.pyramids import OpenPyramid
from bnas.graph.rules.table import after_rule

if TYPE_CHECKING:
    from bnas.graph.trace import Call, Trace

# What of a pyramid's Python a smaller one replaces or relies on.
_METHODS = ("forward", "get_result_from_inner_blocks", "get_result_from_layer_blocks")


@after_rule(IntermediateLayerGetter)
def body(trace: Trace, path: str, module: nn.Module, call: Call) -> None:
    """Remember the maps, by which a pyramid that takes them knows its body."""
    if not trace.training:
        trace.maps[path] = {name: trace.value(x) for name, x in call.out.items()}


@after_rule(FeaturePyramidNetwork)
def pyramid(trace: Trace, path: str, module: FeaturePyramidNetwork, call: Call) -> None:
    """Its finest levels may go, where it is torchvision's own and takes the maps of a body that can do without."""
    if trace.training:
        return
    maps, outputs = call.get(0, "x"), call.out
    parts = (f"{path}.inner_blocks", f"{path}.layer_blocks")
    found = trace.pyramids.setdefault(
        path,
        OpenPyramid(
            name=path,
            levels=tuple(outputs),
            body=len(maps),
            modules=tuple(tuple(f"{part}.{number}" for part in parts) for number in range(len(maps))),
            type=type(module).__name__,
        ),
    )
    found.followers[path] = None
    values = {name: trace.value(x) for name, x in maps.items()}
    source = next((own for own, made in trace.maps.items() if made == values), None)
    if source is None:
        found.why["is fed by no IntermediateLayerGetter, which could leave levels out"] = None
    else:
        found.followers[source] = None
    if any(
        name in vars(module) or getattr(type(module), name) is not getattr(FeaturePyramidNetwork, name)
        for name in _METHODS
    ):
        found.why["has a forward of its own"] = None
    if tuple(outputs) != found.levels or tuple(maps) != found.levels[: found.body]:
        found.why["makes other levels than it takes"] = None
    found.outputs.append(tuple(trace.value(x) for x in outputs.values()))
    for name, x in outputs.items():
        trace.comes_from(x, frozenset(((path, name),)))


@after_rule(AnchorGenerator)
def anchors(trace: Trace, path: str, module: nn.Module, call: Call) -> None:
    """It keeps anchors for each level."""
    maps: Sequence[Tensor] = call.get(1, "feature_maps")
    for found, numbers in _read(trace, maps):
        found.followers[path] = None
        if numbers != list(range(len(found.levels))) or len(maps) != len(found.levels):
            found.why[f"has levels for which {path} makes no anchors"] = None


@after_rule(MultiScaleRoIAlign)
def regions(trace: Trace, path: str, module: MultiScaleRoIAlign, call: Call) -> None:
    """It names the levels from which it takes regions, of which one must be left."""
    maps = {name: x for name, x in call.get(0, "x").items() if name in module.featmap_names}
    for found, numbers in _read(trace, list(maps.values())):
        found.followers[path] = None
        found.reads.append(max(numbers))
        if [found.levels[number] for number in numbers] != list(maps):
            found.why[f"has levels that {path} calls by other names"] = None


def _read(trace: Trace, maps: Sequence[Tensor]) -> list[tuple[OpenPyramid, list[int]]]:
    """The pyramids that made any of `maps`, each with the numbers of the levels they are."""
    values = [trace.value(x) for x in maps]
    return [
        (found, [outputs.index(value) for value in values if value in outputs])
        for found in (() if trace.training else trace.pyramids.values())
        for outputs in found.outputs
        if not set(values).isdisjoint(outputs)
    ]
