"""Turn what a trace found into facts, once all variables are known."""

from __future__ import annotations

from math import prod

from bnas.graph.blocks import BlockFinder
from bnas.graph.channels import Channels, Parts, freeze, is_fixed, resolved, size
from bnas.graph.facts import Attribute, ChannelGraph, Group, Label, Layer, Segment, Weight, is_inside
from bnas.graph.pyramids import find_pyramids
from bnas.graph.state import OpenLayer, Trace
from bnas.graph.unify import unite


def collect(state: Trace, finder: BlockFinder, input_shapes: tuple[tuple[int, ...], ...]) -> ChannelGraph:
    """The facts of a finished trace."""
    idle = idle_modules(state)
    labels = [label for layer in state.layers.values() for label in (layer.reads, layer.writes, *layer.axes)]
    labels += [label for tensor in state.tensors.values() for label in state.labels(tensor)]
    _decide(labels)
    _agree(state)
    _decide(labels)
    _freeze_undecided(state, idle)
    names, groups = _groups(state)
    to_label = Labels(names)
    layers = tuple(_layer(layer, to_label) for layer in state.layers.values())
    return ChannelGraph(
        groups=groups,
        layers=layers,
        blocks=finder.blocks(to_label, {group.name: group for group in groups}),
        weights=_weights(state, to_label),
        attributes=_attributes(state, to_label),
        input_shapes=input_shapes,
        idle=idle,
        pyramids=find_pyramids(state, layers),
    )


def idle_modules(state: Trace) -> tuple[str, ...]:
    """The outermost modules with parameters of which no part has run or lent its weights."""
    used = {key for key, tensor in state.tensors.items() if state.mark_of(tensor) is not None}
    idle: list[str] = []
    for path, module in state.model.named_modules():
        if any(is_inside(path, other) for other in idle):
            continue
        own = [id(parameter) for parameter in module.parameters()]
        if own and not used.intersection(own):
            idle.append(path)
    return tuple(idle)


def _freeze_undecided(state: Trace, idle: tuple[str, ...]) -> None:
    """Where values decide what runs, a module that did not run may yet read anything that is near it."""
    for path in idle:
        near = [own for own in state.decided if is_inside(path, own)]
        if not near:
            continue
        scope = max(near, key=len)
        reason = f"is near {path}, which did not run on the example: {scope or 'the model'} decides by values"
        for layer in state.layers.values():
            if is_inside(layer.name, scope):
                freeze(layer.reads, reason)
                freeze(layer.writes, reason)


class Labels:
    """Open labels as facts: variables become groups, those that no layer makes are of fixed size."""

    def __init__(self, names: dict[Channels, str]) -> None:
        self.names = names

    def __call__(self, parts: Parts) -> Label:
        result: list[Segment] = []
        for part in resolved(parts):
            name = self.names.get(part.channels) if part.channels is not None else None
            if name is not None:
                result.append(Segment(group=name, units=part.units, repeat=part.repeat))
            elif result and result[-1].group is None:
                result[-1] = Segment(group=None, units=result[-1].units + part.size)
            else:
                result.append(Segment(group=None, units=part.size))
        return tuple(result)


def _decide(labels: list[Parts]) -> None:
    """Settle every split that nothing has decided."""
    for label in labels:
        while waiting := [
            split for part in resolved(label) if part.channels for split in part.channels.waiting
        ]:
            for split in waiting:
                split.decide()


def _agree(state: Trace) -> None:
    """An attribute is one number: whatever it is the size of is the same."""
    for (module, name), candidates in state.attributes.items():
        known = [own for own in candidates if not all(is_fixed(label) for label in own.labels)]
        for other in known[1:]:
            for a, b in zip(known[0].labels, other.labels, strict=False):
                if other.per == known[0].per and size(a) == size(b):
                    unite(a, b, f"{module}.{name}".lstrip("."))


def _groups(state: Trace) -> tuple[dict[Channels, str], tuple[Group, ...]]:
    """Each variable is a group, named after the first layer that makes its channels."""
    names: dict[Channels, str] = {}
    groups: list[Group] = []
    for layer in state.layers.values():
        if not layer.makes:
            continue
        parts, start = resolved(layer.writes), 0
        new = {part.channels for part in parts if part.channels is not None} - set(names)
        for part in parts:
            if part.channels is not None and part.channels not in names:
                whole = len(new) == 1
                name = layer.name if whole else f"{layer.name}[{start}:{start + part.size}]"
                names[part.channels] = name
                groups.append(
                    Group(
                        name=name,
                        units=part.units,
                        channels_per_unit=part.repeat,
                        why=tuple(part.channels.why),
                        type=layer.type,
                    )
                )
            start += part.size
    return names, tuple(groups)


def _layer(layer: OpenLayer, label: Labels) -> Layer:
    axes = [own for own in (label(axis) for axis in layer.axes) if any(segment.group for segment in own)]
    others = [axis for axis in layer.axes if not any(segment.group for segment in label(axis))]
    return Layer(
        name=layer.name,
        kind=layer.kind,
        reads=label(layer.reads),
        writes=label(layer.writes),
        positions=layer.positions * prod(size(axis) for axis in others),
        kernel=layer.kernel,
        groups=layer.groups,
        bias=layer.bias,
        type=layer.type,
        axes=tuple(axes),
        kernels=layer.kernels,
        stride=layer.stride,
        input_positions=layer.input_positions,
        then=tuple(layer.then),
    )


def _weights(state: Trace, label: Labels) -> tuple[Weight, ...]:
    """Every parameter, and the buffers that follow some channels, in order of the `state_dict`."""
    parameters = {id(parameter) for parameter in state.model.parameters()}
    weights = []
    for key, tensor in state.tensors.items():
        axes = tuple(label(own) for own in state.labels(tensor))
        if key in parameters or any(segment.group for axis in axes for segment in axis):
            name, *aliases = state.names[key]
            weights.append(Weight(name=name, axes=axes, trainable=key in parameters, aliases=tuple(aliases)))
    return tuple(weights)


def _attributes(state: Trace, label: Labels) -> tuple[Attribute, ...]:
    return tuple(
        Attribute(
            module=module,
            name=name,
            labels=tuple(label(own) for own in attribute.labels),
            per=attribute.per,
            many=attribute.many,
        )
        for (module, name), candidates in state.attributes.items()
        for attribute in [own for own in candidates if not all(map(is_fixed, own.labels))][:1]
    )
