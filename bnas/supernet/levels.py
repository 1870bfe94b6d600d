"""Levels of feature pyramids: without the finest ones, in the super-network and in a subnet that is taken out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import partial
from operator import itemgetter
from typing import Any

from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from bnas.graph.facts import ChannelGraph, Pyramid
from bnas.space import SearchSpace, Shape

Dropped = tuple[str, ...]  # names of levels, the finest first


def _body(module: IntermediateLayerGetter, dropped: Dropped) -> dict[str, Any]:
    layers = {layer: level for layer, level in module.return_layers.items() if level not in dropped}
    return {"return_layers": layers}


def _pyramid(module: FeaturePyramidNetwork, dropped: Dropped) -> dict[str, Any]:
    return {
        name: partial(_of_level, module, name, len(dropped))
        for name in ("get_result_from_inner_blocks", "get_result_from_layer_blocks")
        if dropped
    }


def _of_level(module: FeaturePyramidNetwork, method: str, first: int, x: Tensor, idx: int) -> Tensor:
    """What the pyramid's `method` makes of map `idx` when it gets no map of the `first` levels."""
    result: Tensor = getattr(FeaturePyramidNetwork, method)(module, x, idx + first if idx >= 0 else idx)
    return result


def _anchors(module: AnchorGenerator, dropped: Dropped) -> dict[str, Any]:
    return {name: vars(module)[name][len(dropped) :] for name in ("sizes", "aspect_ratios", "cell_anchors")}


def _regions(module: MultiScaleRoIAlign, dropped: Dropped) -> dict[str, Any]:
    """Its scales are those of the first maps that it sees."""
    names = [name for name in module.featmap_names if name not in dropped]
    return {"featmap_names": names, "scales": None, "map_levels": None}


# What has to follow the levels: class → the attributes of such a module, which is as it was, without some.
FOLLOWERS: dict[type[nn.Module], Callable[[Any, Dropped], dict[str, Any]]] = {
    IntermediateLayerGetter: _body,
    FeaturePyramidNetwork: _pyramid,
    AnchorGenerator: _anchors,
    MultiScaleRoIAlign: _regions,
}
# Of a pyramid that has lost the modules of its finest levels, nothing has to follow.
_PLAIN = {kind: own for kind, own in FOLLOWERS.items() if kind is not FeaturePyramidNetwork}


def without_levels(module: nn.Module, dropped: Dropped) -> None:
    """Make a module, which is as it was, one that knows nothing of the levels `dropped`."""
    for kind, attributes in _PLAIN.items():
        if isinstance(module, kind) and dropped:
            vars(module).update(attributes(module, dropped))


class LevelSlot:
    """A module that has to know which levels of a pyramid there are; its plans are the levels without which."""

    def __init__(self, path: str, module: nn.Module, pyramid: Pyramid, choice: str) -> None:
        self.path, self.module, self.pyramid = path, module, pyramid
        self.key = itemgetter(choice)
        self.plans: dict[Any, Dropped] = {}
        self.active: Any = None
        self._follow = next(own for kind, own in FOLLOWERS.items() if isinstance(module, kind))
        self._names = tuple(self._follow(module, pyramid.levels[:1]))
        self._before = {name: vars(module)[name] for name in self._names if name in vars(module)}

    def make_plan(self, shape: Shape, transforms: nn.ParameterDict) -> Dropped:
        return tuple(level.name for level in self.pyramid.dropped(shape.levels[self.pyramid.name]))

    def keep(self, key: Any, plan: Dropped) -> None:
        self.plans[key] = plan

    def set(self, key: Any, plan: Dropped) -> None:
        """Leave the levels of the plan out."""
        self._put_back(self.module, self._before)
        if plan:
            vars(self.module).update(self._follow(self.module, plan))
        self.active = key

    def make_plain(self, copied: nn.Module, plan: Dropped, memo: dict[int, Any]) -> None:
        """Make a copy of the module one that knows nothing of the levels of the plan."""
        self._put_back(copied, copy.deepcopy(self._before, memo))
        without_levels(copied, plan)

    def _put_back(self, module: nn.Module, before: dict[str, Any]) -> None:
        for name in self._names:
            vars(module).pop(name, None)
        vars(module).update(before)

    def close(self) -> None:
        """Give the module back as it was."""
        self.set(None, ())


def modules_of_dropped(slots: Iterable[tuple[Any, Any]]) -> tuple[str, ...]:
    """The modules of dropped levels, given slots with their plans."""
    return tuple(
        dict.fromkeys(
            path
            for slot, plan in slots
            if isinstance(slot, LevelSlot)
            for level in slot.pyramid.droppable[: len(plan)]
            for path in level.modules
        )
    )


def level_slots(model: nn.Module, graph: ChannelGraph, space: SearchSpace) -> list[LevelSlot]:
    """A slot for every module that follows a choice of levels."""
    return [
        LevelSlot(path, model.get_submodule(path), graph.pyramid_by_name[name], choice.name)
        for choice in space.choices
        if choice.dim == "levels"
        for name in choice.targets
        for path in graph.pyramid_by_name[name].followers
    ]
