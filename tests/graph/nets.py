"""Small nets for the tests of tracing, and two witnesses of what a trace says about any of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bnas.graph import ChannelGraph, Label, trace
from bnas.graph.trace import Inputs, call_with

CUT = 0.6  # of the units that `smaller` keeps


class Net(nn.Module):
    """Layers and parameters by name, and a forward given as a function of them."""

    def __init__(self, forward: Callable[..., object], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._forward = forward

    def forward(self, *inputs: Any, **named: Any) -> object:
        return self._forward(self, *inputs, **named)


def conv(inputs: int, outputs: int, **options: Any) -> nn.Conv2d:
    """A 3×3 convolution that keeps the size of its input."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * 0.5)


def facts(forward: Callable[..., object], *shape: int, **parts: nn.Module | nn.Parameter) -> ChannelGraph:
    """The facts of a `Net` on one random input, by default two images [2, 3, 8, 8]; both witnesses agree."""
    return checked(Net(forward, **parts), (torch.randn(*(shape or (2, 3, 8, 8))),))


def checked(model: nn.Module, inputs: Inputs) -> ChannelGraph:
    """The facts of a model, after both witnesses have agreed."""
    graph = trace(model, inputs)
    check_order_is_free(model, inputs, graph)
    check_smaller_runs(model, inputs, graph)
    return graph


def text(label: Label) -> str:
    """`a:8` are 8 units of group a, `a:4x2` 4 units of 2 positions each, `5` positions of fixed size."""
    return " + ".join(
        str(s.units) if s.group is None else f"{s.group}:{s.units}" + (f"x{s.repeat}" if s.repeat > 1 else "")
        for s in label
    )


def groups(graph: ChannelGraph) -> dict[str, str]:
    """`8` units, `4x2` units of 2 channels each; reasons why a width is fixed follow after `!`."""
    return {
        g.name: str(g.units)
        + (f"x{g.channels_per_unit}" if g.channels_per_unit > 1 else "")
        + ("" if g.free else " ! " + "; ".join(g.why))
        for g in graph.groups
    }


def free(graph: ChannelGraph) -> dict[str, str]:
    """As `groups`, the free ones alone."""
    names = {group.name for group in graph.groups if group.free}
    return {name: shown for name, shown in groups(graph).items() if name in names}


def why(graph: ChannelGraph, group: str) -> str:
    return "; ".join(graph.group_by_name[group].why)


def layers(graph: ChannelGraph) -> dict[str, str]:
    """What every layer reads → writes."""
    return {layer.name: f"{text(layer.reads)} → {text(layer.writes)}" for layer in graph.layers}


def weights(graph: ChannelGraph, *names: str) -> dict[str, list[str]]:
    """The labels along the axes of weights; by default of all that follow a group."""
    return {
        w.name: [text(axis) for axis in w.axes]
        for w in graph.weights
        if (w.name in names if names else any(s.group for axis in w.axes for s in axis))
    }


def attributes(graph: ChannelGraph) -> dict[str, str]:
    """`module.name` → the labels whose active size it is, and what that is divided by."""
    return {
        f"{a.module}.{a.name}".lstrip("."): ", ".join(map(text, a.labels))
        + (f" / {a.per}" if a.per > 1 else "")
        for a in graph.attributes
    }


def check_order_is_free(model: nn.Module, inputs: Inputs, graph: ChannelGraph) -> None:
    """The units of every free group in another order, in all weights that follow it: the output is the same."""
    generator = torch.Generator().manual_seed(0)
    orders = {g.name: torch.randperm(g.units, generator=generator) for g in graph.groups if g.free}
    other = _indexed(model, graph, lambda group, units: orders.get(group, torch.arange(units)))
    for a, b in zip(_run(model, inputs), _run(other, inputs), strict=True):
        assert not a.numel() or a.count_nonzero(), "this output proves nothing"
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def check_smaller_runs(model: nn.Module, inputs: Inputs, graph: ChannelGraph) -> None:
    """With the first units of every free group alone, and the attributes set, the model runs."""
    kept = {g.name: max(1, int(CUT * g.units)) for g in graph.groups if g.free}
    other = _indexed(model, graph, lambda group, units: torch.arange(kept.get(group, units)))
    for attribute in graph.attributes:
        sizes = tuple(
            sum(kept.get(s.group or "", s.units) * s.repeat for s in label) // attribute.per
            for label in attribute.labels
        )
        setattr(other.get_submodule(attribute.module), attribute.name, sizes if attribute.many else sizes[0])
    for a, b in zip(_run(model, inputs), _run(other, inputs), strict=True):
        assert a.shape == b.shape


def _indexed(model: nn.Module, graph: ChannelGraph, units_of: Callable[[str, int], Tensor]) -> nn.Module:
    """A copy of the model with the chosen units of every group in its weights."""
    other = copy.deepcopy(model)
    tensors = {
        **dict(other.named_parameters(remove_duplicate=False)),
        **dict(other.named_buffers(remove_duplicate=False)),
    }
    for weight in graph.weights:
        tensor = tensors[weight.name]
        for axis, label in enumerate(weight.axes):
            positions: list[int] = []
            start = 0
            for s in label:
                for unit in (units_of(s.group, s.units) if s.group else torch.arange(s.units)).tolist():
                    positions += range(start + unit * s.repeat, start + (unit + 1) * s.repeat)
                start += s.size
            assert start == tensor.shape[axis]
            tensor.data = tensor.data.index_select(axis, torch.tensor(positions))
    return other


def _run(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    modes = [(module, module.training) for module in model.modules()]
    with torch.no_grad():
        output = call_with(model.eval(), inputs)
    for module, training in modes:
        module.training = training
    return _flat(output)


def _flat(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    values = output.values() if isinstance(output, Mapping) else output
    return [tensor for value in values for tensor in _flat(value)]
