"""Slots: the modules that change with a config, each with its plans by the values of the choices it follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from bnas.errors import ModelError
from bnas.graph.costs import active_size
from bnas.graph.facts import Attribute, ChannelGraph, Label, Layer
from bnas.space import SearchSpace, Shape
from bnas.supernet.elastic import Cut, Elastic, Index, elastic_class, make_cut
from bnas.supernet.kernel import cropped, kernel_attributes
from bnas.supernet.levels import LevelSlot, level_slots

KEPT_PLANS = 64  # per slot; a slot that follows many choices would keep ever more
Plan = Mapping[str, Any]


class Axis:
    """An axis with a label, along which some channels may go."""

    def __init__(self, label: Label, elastic: set[str]) -> None:
        self.label = label
        self.groups = tuple(dict.fromkeys(s.group for s in label if s.group in elastic and s.group))
        self._known: dict[tuple[int, ...], Index | None] = {}

    def index(self, shape: Shape) -> Index | None:
        """Where the active channels lie; None: everywhere."""
        if not self.groups:
            return None
        key = tuple([shape.widths[group] for group in self.groups])
        if key not in self._known:
            if len(self._known) >= KEPT_PLANS:
                self._known.clear()
            self._known[key] = active_positions(self.label, shape.widths)
        return self._known[key]


def active_positions(label: Label, widths: Mapping[str, int]) -> Index | None:
    """Positions along a labelled axis when each group keeps its first so many units; None: all of them."""
    ranges: list[tuple[int, int]] = []
    start = 0
    for segment in label:
        units = widths.get(segment.group, segment.units) if segment.group else segment.units
        stop = start + units * segment.repeat
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], stop)
        elif stop > start:
            ranges.append((start, stop))
        start += segment.size
    if ranges == [(0, start)]:
        return None
    if len(ranges) <= 1:
        return slice(*ranges[0]) if ranges else slice(0, 0)
    return torch.cat([torch.arange(first, stop) for first, stop in ranges])


class Slot:
    """One module that is activated: its elastic tensors, attributes and kernel.

    `plans` maps the values of the slot's choices to what its `__dict__` then holds; `key` takes these values
    out of a config's.
    """

    def __init__(self, path: str, module: nn.Module) -> None:
        self.path, self.module, self.original = path, module, type(module)
        self.tensors: dict[str, tuple[Axis, ...]] = {}
        self.attributes: dict[str, Attribute] = {}
        self.kernel: Layer | None = None
        self.plans: dict[Any, Plan] = {}
        self.active: Any = None
        self.key: Callable[[Mapping[str, int]], Any] = lambda values: None
        self.before: dict[str, Any] = {}

    def choices(self, by_group: Mapping[str, str], by_layer: Mapping[str, str]) -> list[str]:
        """The names of the choices that this slot follows."""
        labels = [axis.label for axes in self.tensors.values() for axis in axes]
        labels += [label for attribute in self.attributes.values() for label in attribute.labels]
        groups = [segment.group for label in labels for segment in label if segment.group]
        found = [by_group[group] for group in groups if group in by_group]
        if self.kernel is not None:
            found.append(by_layer[self.kernel.name])
        return list(dict.fromkeys(found))

    def open(self, choices: list[str]) -> None:
        """Swap the class in; from now on plans can be set."""
        self.key = itemgetter(*choices)
        own = self.module.__dict__
        names = list(self.attributes)
        if self.kernel is not None:
            names += kernel_attributes(self.kernel, own, max(self.kernel.kernel))
        self.before = {name: own[name] for name in names if name in own}
        if self.tensors:
            own["_cuts"] = {}
            self.module.__class__ = elastic_class(self.original, tuple(self.tensors))

    def close(self) -> None:
        """Give the module back as it was."""
        make_plain(self.module, self.original)
        for name in self.attributes:
            self.module.__dict__.pop(name, None)
        self.module.__dict__.update(self.before)

    def make_plan(self, shape: Shape, transforms: nn.ParameterDict) -> Plan:
        """What the module's `__dict__` holds for a subnet of this shape."""
        size = shape.kernels.get(self.kernel.name) if self.kernel is not None else None
        cuts: dict[str, Cut] = {}
        for name, axes in self.tensors.items():
            indices = tuple([axis.index(shape) for axis in axes])
            if self.kernel is not None and size is not None and name == "weight":
                cut = cropped(self.kernel, size, indices, transforms)
            else:
                cut = make_cut(indices)
            if cut is not None:
                cuts[name] = cut
        plan: dict[str, Any] = dict(self.before)
        for name, attribute in self.attributes.items():
            sizes = tuple(active_size(label, shape.widths) // attribute.per for label in attribute.labels)
            value = sizes if attribute.many else sizes[0]
            if value != _plain(plan.get(name)):  # the very object that was there, where nothing changes
                plan[name] = value
        if self.kernel is not None and size is not None:
            plan |= kernel_attributes(self.kernel, {**self.module.__dict__, **self.before}, size)
        return {"_cuts": cuts, **plan} if self.tensors else plan

    def keep(self, key: Any, plan: Plan) -> None:
        """Remember a plan."""
        if len(self.plans) >= KEPT_PLANS:
            self.plans.clear()
        self.plans[key] = plan

    def set(self, key: Any, plan: Plan) -> None:
        """Activate a plan."""
        self.module.__dict__.update(plan)
        self.active = key


class BlockSlot:
    """A block that is there or skipped; its plans are whether it is skipped."""

    def __init__(self, path: str, module: nn.Module, choices: list[str]) -> None:
        self.path, self.module = path, module
        self.key = itemgetter(*choices)
        self.plans: dict[Any, bool] = {}
        self.active: Any = None
        self.own = module.__dict__.get("forward")  # a forward that the user gave to this very module

    def make_plan(self, shape: Shape, transforms: nn.ParameterDict) -> bool:
        return self.path in shape.skipped

    def keep(self, key: Any, plan: bool) -> None:
        self.plans[key] = plan

    def set(self, key: Any, plan: bool) -> None:
        """Activate or skip the block."""
        if plan:
            self.module.__dict__["forward"] = skip
        elif self.own is not None:
            self.module.__dict__["forward"] = self.own
        else:
            self.module.__dict__.pop("forward", None)
        self.active = key

    def close(self) -> None:
        """Give the module back as it was."""
        self.set(None, False)


def skip(*args: Any, **kwargs: Any) -> Any:
    """What a skipped block does: its first input is its output."""
    return args[0] if args else next(iter(kwargs.values()))


def make_plain(module: nn.Module, original: type[nn.Module]) -> None:
    """Swap an elastic module's class back; its tensors and attributes stay as they are."""
    module.__class__ = original
    module.__dict__.pop("_cuts", None)


def make_slots(
    model: nn.Module, graph: ChannelGraph, space: SearchSpace
) -> list[Slot | BlockSlot | LevelSlot]:
    """A slot for every module that follows a choice of the space; their classes are still the user's.

    Raises:
        ModelError: the model is not the one that `graph` tells of, or cannot be made elastic.
    """
    of = {dim: [choice for choice in space.choices if choice.dim == dim] for dim in space.dims}
    by_group = {target: choice.name for choice in of.get("width", ()) for target in choice.targets}
    by_layer = {target: choice.name for choice in of.get("kernel", ()) for target in choice.targets}
    slots: dict[int, Slot] = {}
    elastic, axes = set(by_group), dict[Label, Axis]()

    def slot(path: str) -> Slot:
        module = _module(model, path)
        if isinstance(module, Elastic):
            raise ModelError("this model already belongs to a super-network; call its release() first")
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(
                f"{path or 'the model'} is compiled TorchScript, which cannot be made elastic; give the Python "
                "module that it was made from"
            )
        return slots.setdefault(id(module), Slot(path, module))

    for weight in graph.weights:
        own_axes = tuple(axes.setdefault(label, Axis(label, elastic)) for label in weight.axes)
        layer = weight.name.removesuffix(".weight")
        if layer not in by_layer and not any(axis.groups for axis in own_axes):
            continue
        for full in (weight.name, *weight.aliases):
            path, _, name = full.rpartition(".")
            found = slot(path)
            tensor = found.module._parameters.get(name, found.module._buffers.get(name))
            _check_shape(full, tensor, weight.axes)
            found.tensors[name] = own_axes
            if layer in by_layer:
                found.kernel = graph.layer_by_name[layer]
    for attribute in graph.attributes:
        groups = [segment.group for label in attribute.labels for segment in label]
        if elastic.intersection(filter(None, groups)):
            slot(attribute.module).attributes[attribute.name] = attribute
    skippable: dict[str, list[str]] = {}
    for choice in of.get("depth", ()):
        for target in choice.targets:
            skippable.setdefault(target, []).append(choice.name)
    blocks = [BlockSlot(path, _module(model, path), names) for path, names in skippable.items()]
    for own in slots.values():
        own.open(own.choices(by_group, by_layer))
    return [*slots.values(), *blocks, *level_slots(model, graph, space)]


def _module(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        raise ModelError(
            f"the model has no module '{path}', which its graph tells of; trace this model again"
        ) from None


def _check_shape(name: str, tensor: Tensor | None, axes: Iterable[Label]) -> None:
    expected = [sum(segment.size for segment in label) for label in axes]
    if tensor is None or list(tensor.shape) != expected:
        got = "none" if tensor is None else f"one of shape {list(tensor.shape)}"
        raise ModelError(
            f"{name}: the graph tells of a tensor of shape {expected}, the model has {got}; trace this model again"
        )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value
