"""The super-network: the user's own model, of which any subnet can be activated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnas.errors import ModelError
from bnas.graph.costs import active_size
from bnas.graph.facts import ChannelGraph, Label
from bnas.space import SearchSpace, Shape, SubnetConfig, check_fits, shape_of
from bnas.supernet.elastic import Elastic, Index, LayerPlan, as_index, elastic_class


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that activating a config sets: a plan per layer, and the blocks to skip."""

    layers: dict[str, LayerPlan]
    skipped: frozenset[str]


class Supernet:
    """`model` made elastic in place, with the largest subnet (the original network) active.

    Parameters, buffers and `state_dict` keys stay those of the model; only the classes of its layers are
    swapped, until `release` swaps them back.

    Args:
        model: the network that `graph` was traced from.
        graph: its facts.
        space: the choices; each must fit the graph.

    Raises:
        SpaceError: the space does not fit the model.
    """

    def __init__(self, model: nn.Module, graph: ChannelGraph, space: SearchSpace) -> None:
        check_fits(graph, space)
        self.model, self.graph, self.space = model, graph, space
        self._modules = {layer.name: model.get_submodule(layer.name) for layer in graph.layers}
        self._blocks = {block.name: model.get_submodule(block.name) for block in graph.blocks}
        self._classes = {name: type(module) for name, module in self._modules.items()}
        if any(issubclass(kind, Elastic) for kind in self._classes.values()):
            raise ModelError("this model already belongs to a super-network; call its release() first")
        for layer in graph.layers:
            kind = elastic_class(layer.kind, layer.groups, self._classes[layer.name])
            self._modules[layer.name].__class__ = kind
        self._indices: dict[tuple[Label, tuple[int | None, ...]], Index | None] = {}
        self.activate(space.largest)

    def __call__(self, *inputs: Any) -> Any:
        """Run the active subnet."""
        return self.model(*inputs)

    @property
    def active(self) -> SubnetConfig:
        """The config that is active."""
        return self._active

    def activate(self, config: SubnetConfig) -> None:
        """Make `config` the active subnet.

        Raises:
            SpaceError: the config does not belong to the space; the active subnet stays as it was.
        """
        plan = self.plan(config)
        for name, layer in plan.layers.items():
            module = self._modules[name]
            assert isinstance(module, Elastic)
            module.apply_plan(layer)
        for name, block in self._blocks.items():
            if name in plan.skipped:
                block.__dict__["forward"] = identity
            else:
                block.__dict__.pop("forward", None)
        self._active = config

    @contextmanager
    def activated(self, config: SubnetConfig) -> Iterator[None]:
        """Activate `config` for the length of a `with` block."""
        before = self.active
        self.activate(config)
        try:
            yield
        finally:
            self.activate(before)

    def release(self) -> nn.Module:
        """Give the model back as a plain module of its own classes, whole; this super-network ends."""
        self.activate(self.space.largest)
        for name, module in self._modules.items():
            make_plain(module, self._classes[name])
        return self.model

    def original_class(self, name: str) -> type[nn.Module]:
        """The user's class of the layer `name`."""
        return self._classes[name]

    def plan(self, config: SubnetConfig) -> Plan:
        """What activating `config` would set. Raises SpaceError for a config outside the space."""
        shape = shape_of(self.graph, self.space, config)
        layers = {}
        for layer in self.graph.layers:
            inputs, outputs = active_size(layer.reads, shape.widths), active_size(layer.writes, shape.widths)
            groups = 1
            if layer.groups > 1:
                groups = inputs * layer.groups // active_size(layer.reads, {})
            layers[layer.name] = LayerPlan(
                reads=self._index(layer.reads, shape),
                writes=self._index(layer.writes, shape),
                inputs=inputs,
                outputs=outputs,
                groups=groups,
            )
        return Plan(layers=layers, skipped=shape.skipped)

    def _index(self, label: Label, shape: Shape) -> Index | None:
        """Positions of the active channels along a labelled axis; each (label, widths) is made once."""
        key = label, tuple(shape.widths.get(segment.group) if segment.group else None for segment in label)
        if key not in self._indices:
            ranges, start = [], 0
            for segment in label:
                units = shape.widths.get(segment.group, segment.units) if segment.group else segment.units
                ranges.append((start, start + units * segment.repeat))
                start += segment.size
            self._indices[key] = as_index(ranges, start, self._device)
        return self._indices[key]

    @property
    def _device(self) -> torch.device:
        return next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))


def identity(input: Tensor) -> Tensor:
    """What a skipped block does."""
    return input


def make_plain(module: nn.Module, original: type[nn.Module]) -> None:
    """Swap an elastic layer's class back; the sizes it shows stay those of its last plan."""
    module.__class__ = original
    for name in ("_plan", "_indices"):
        module.__dict__.pop(name, None)
