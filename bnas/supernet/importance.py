"""Put the most important channels first, so that every prefix is the best part of its group.

Reordering permutes the units of each group along every axis that carries them, which leaves the largest
subnet's output unchanged (Cai et al. 2020, "Once-for-All", §3.3: elastic width).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from math import lcm
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bnas.errors import ConfigError, did_you_mean
from bnas.graph.costs import weight_of
from bnas.graph.facts import Label, Layer
from bnas.graph.trace import call_with, eval_mode
from bnas.space import Choice
from bnas.supernet.supernet import Supernet

Scores = Mapping[str, Tensor]  # of the output channels [C] of layers, by the layer's name
Batches = Iterable[tuple[Any, Callable[[Any], Tensor]]]  # inputs, and the loss of the outputs
Importance = Callable[[Supernet, Callable[[], Batches]], Scores]


def l1(supernet: Supernet, batches: Callable[[], Batches]) -> Scores:
    """Sum of absolute weights of each output channel (Li et al. 2017, "Pruning Filters")."""
    return {name: rows.norm(1, dim=1) for name, rows in _weights(supernet).items()}


def l2(supernet: Supernet, batches: Callable[[], Batches]) -> Scores:
    """Euclidean norm of the weights of each output channel."""
    return {name: rows.norm(2, dim=1) for name, rows in _weights(supernet).items()}


def bn_scale(supernet: Supernet, batches: Callable[[], Batches]) -> Scores:
    """|γ| of each channel of a batch norm (Liu et al. 2017, "Network Slimming")."""
    tensors = dict(supernet.model.named_parameters())
    names = [layer.name for layer in supernet.graph.layers if layer.kind == "batch_norm"]
    return {name: tensors[f"{name}.weight"].detach().abs() for name in names if f"{name}.weight" in tensors}


def taylor(supernet: Supernet, batches: Callable[[], Batches]) -> Scores:
    """Σ |w ∂L/∂w| over the weights of each output channel and over the batches (Molchanov et al. 2019, eq. 8)."""
    tensors = dict(supernet.model.named_parameters(remove_duplicate=False))
    axes = {name: axis for name, axis in _weight_axes(supernet).items() if tensors[axis[0]].requires_grad}
    used = [tensors[weight] for weight, _ in axes.values()]
    total = [torch.zeros_like(weight) for weight in used]
    with torch.enable_grad():
        for inputs, loss in batches():
            found = torch.autograd.grad(loss(_run(supernet, inputs)), used, allow_unused=True)
            for sums, weight, gradient in zip(total, used, found, strict=True):
                if gradient is not None:
                    sums += (weight.detach() * gradient).abs()
    return {
        name: sums.movedim(axis, 0).flatten(1).sum(1)
        for (name, (_, axis)), sums in zip(axes.items(), total, strict=True)
    }


def activation(supernet: Supernet, batches: Callable[[], Batches]) -> Scores:
    """Mean absolute output of each channel of convolutions and linear layers over the batches."""
    modules = dict(supernet.model.named_modules())
    layers = {
        layer.name: layer
        for layer in supernet.graph.layers
        if layer.name in modules and layer.kind.startswith(("conv", "linear"))
    }
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def hook(layer: Layer) -> Callable[[nn.Module, Any, Any], None]:
        axis = -1 - len(layer.kernel)  # channels stand before the axes of the kernel

        def add(module: nn.Module, args: Any, output: Any) -> None:
            own = output.detach().abs().movedim(axis, -1).flatten(0, -2)
            sums[layer.name] = sums.get(layer.name, 0) + own.sum(0)
            counts[layer.name] = counts.get(layer.name, 0) + len(own)

        return add

    hooks = [modules[name].register_forward_hook(hook(layer)) for name, layer in layers.items()]
    try:
        for inputs, _ in batches():
            _run(supernet, inputs)
    finally:
        for handle in hooks:
            handle.remove()
    return {name: total / counts[name] for name, total in sums.items()}


# What a measure makes of a super-network, the largest subnet of which is active, and of some batches.
IMPORTANCE: dict[str, Importance] = {
    "l1": l1,
    "l2": l2,
    "bn_scale": bn_scale,
    "taylor": taylor,
    "activation": activation,
}


@torch.no_grad()
def reorder_channels(
    supernet: Supernet, importance: str = "l1", batches: Callable[[], Batches] | None = None
) -> None:
    """Sort the units of every elastic width by falling importance, in place.

    The scores of all layers that write a group are added up, each scaled to mean 1. Groups of one choice
    are sorted alike, since the one may stand in for the other.

    Args:
        importance: a key of IMPORTANCE, or a file of scores of layers' output channels: .safetensors, or
            .json as `{"layer1.0.conv1": [0.3, …]}`.
        batches: makes pairs of inputs (a sequence of positional or a dict of keyword arguments) and the
            loss of the outputs, for the measures that run the model.

    Raises:
        ConfigError: no such importance, none of the batches that it needs, or a file that does not fit.
    """
    if Path(importance).suffix in (".json", ".safetensors"):
        found = _read_scores(supernet, Path(importance))
    elif importance in IMPORTANCE:
        with supernet.activated(supernet.space.largest), eval_mode(supernet.model):
            found = IMPORTANCE[importance](supernet, batches or _no_batches(importance))
    else:
        raise ConfigError(
            f"importance: no such measure '{importance}'{did_you_mean(importance, IMPORTANCE)}; "
            "or a file of scores (.json, .safetensors)"
        )
    scores: dict[str, Tensor] = {}
    for layer in supernet.graph.layers:
        if layer.name in found:
            own = found[layer.name].detach().float().cpu()
            _add_up(scores, layer.writes, own / own.mean().clamp_min(1e-12))
    orders: dict[str, Tensor] = {}
    for choice in supernet.space.choices:
        if choice.dim == "width":
            orders.update(_orders(supernet, choice, scores))
    model = supernet.model
    tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    tensors |= dict(model.named_buffers(remove_duplicate=False))
    for weight in supernet.graph.weights:
        for axis, label in enumerate(weight.axes):
            permutation = _permutation(label, orders)
            if permutation is not None:
                tensor = tensors[weight.name]
                tensor.copy_(tensor.index_select(axis, permutation.to(tensor.device)))


def _weight_axes(supernet: Supernet) -> dict[str, tuple[str, int]]:
    """The weight of every convolution and linear layer, and the axis of it along which its outputs lie."""
    found = {}
    for layer in supernet.graph.layers:
        weight = weight_of(supernet.graph, layer)
        if weight is not None and layer.kind.startswith(("conv", "linear", "embedding")):
            axes = range(len(weight.axes))
            backwards = layer.kind.startswith(("conv_transpose", "embedding")) or weight.name == layer.name
            order = reversed(axes) if backwards else axes
            axis = next((axis for axis in order if weight.axes[axis] == layer.writes), None)
            if axis is not None:
                found[layer.name] = (weight.name, axis)
    return found


def _weights(supernet: Supernet) -> dict[str, Tensor]:
    """The weights of every layer as [C, n]: those of each output channel."""
    tensors = dict(supernet.model.named_parameters(remove_duplicate=False))
    return {
        name: tensors[weight].detach().movedim(axis, 0).flatten(1)
        for name, (weight, axis) in _weight_axes(supernet).items()
    }


def _run(supernet: Supernet, inputs: Any) -> Any:
    return call_with(supernet.model, inputs)


def _no_batches(importance: str) -> Callable[[], Batches]:
    def refuse() -> Batches:
        raise ConfigError(
            f"importance: '{importance}' runs the model; give batches of inputs and their losses"
        )

    return refuse


def _read_scores(supernet: Supernet, path: Path) -> Scores:
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = {name: torch.tensor(own) for name, own in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError, SafetensorError) as error:
        raise ConfigError(f"importance: {path} cannot be read as scores of layers: {error}") from error
    layers = supernet.graph.layer_by_name
    for name, own in found.items():
        layer = layers.get(name)
        if layer is None:
            raise ConfigError(f"importance: {path}: no layer '{name}'{did_you_mean(name, layers)}")
        channels = sum(segment.size for segment in layer.writes)
        if list(own.shape) != [channels]:
            raise ConfigError(
                f"importance: {path}: {name} has {channels} output channels, got scores of shape {list(own.shape)}"
            )
    return found


def _add_up(scores: dict[str, Tensor], label: Label, score: Tensor) -> None:
    start = 0
    for segment in label:
        if segment.group is not None:
            own = score[start : start + segment.size].reshape(segment.units, segment.repeat).sum(1)
            scores[segment.group] = scores[segment.group] + own if segment.group in scores else own
        start += segment.size


def _orders(supernet: Supernet, choice: Choice, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The new order of the units of each group of a width choice."""
    groups = [supernet.graph.group_by_name[name] for name in choice.targets]
    whole = lcm(*(group.channels_per_unit for group in groups))  # channels that stay together in all of them
    known = [
        scores[group.name].reshape(group.channels // whole, -1).sum(1)
        for group in groups
        if group.name in scores
    ]
    if not known:
        return {}
    order = torch.argsort(torch.stack(known).sum(0), descending=True, stable=True)
    return {group.name: _expand(order, whole // group.channels_per_unit) for group in groups}


def _expand(order: Tensor, times: int) -> Tensor:
    return (order[:, None] * times + torch.arange(times)).flatten()


def _permutation(label: Label, orders: Mapping[str, Tensor]) -> Tensor | None:
    """New positions along an axis, or None where nothing moves."""
    if not any(segment.group in orders for segment in label):
        return None
    pieces, start = [], 0
    for segment in label:
        units = orders.get(segment.group) if segment.group else None
        units = torch.arange(segment.units) if units is None else units
        pieces.append(start + _expand(units, segment.repeat))
        start += segment.size
    return torch.cat(pieces)
