"""Put the most important channels first, so that every prefix is the best part of its group.

Reordering permutes the units of each group in all tensors that read or write them, which leaves the largest
subnet's output unchanged (Cai et al. 2020, "Once-for-All", §3.3: elastic width).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bnas.errors import ConfigError, did_you_mean
from bnas.graph.facts import Label, Layer
from bnas.supernet.elastic import Elastic
from bnas.supernet.supernet import Supernet

Importance = Callable[[nn.Module, Layer], Tensor | None]


def l1(module: nn.Module, layer: Layer) -> Tensor | None:
    """Sum of absolute weights of each output channel [C] (Li et al. 2017, "Pruning Filters")."""
    return _weight_norm(module, layer, 1)


def l2(module: nn.Module, layer: Layer) -> Tensor | None:
    """Euclidean norm of the weights of each output channel [C]."""
    return _weight_norm(module, layer, 2)


def bn_scale(module: nn.Module, layer: Layer) -> Tensor | None:
    """|γ| of each channel [C] of a batch norm (Liu et al. 2017, "Network Slimming")."""
    weight = module.weight if layer.kind == "batch_norm" else None
    return weight.detach().abs() if isinstance(weight, Tensor) else None


def _weight_norm(module: nn.Module, layer: Layer, order: int) -> Tensor | None:
    if layer.kind not in ("conv2d", "linear"):
        return None
    assert isinstance(module.weight, Tensor)
    norm: Tensor = torch.linalg.vector_norm(module.weight.detach().flatten(1), ord=order, dim=1)
    return norm


# Scores of a layer's output channels, or None where the layer has no say.
IMPORTANCE: dict[str, Importance] = {"l1": l1, "l2": l2, "bn_scale": bn_scale}


@torch.no_grad()
def reorder_channels(supernet: Supernet, importance: str = "l1") -> None:
    """Sort the units of every elastic width by falling importance, in place.

    The scores of all layers that write a group are added up, each scaled to mean 1.

    Raises:
        ConfigError: no such importance.
    """
    if importance not in IMPORTANCE:
        raise ConfigError(f"importance: no such measure '{importance}'{did_you_mean(importance, IMPORTANCE)}")
    modules = {layer.name: supernet.model.get_submodule(layer.name) for layer in supernet.graph.layers}
    elastic = {name for choice in supernet.space.choices if choice.dim == "width" for name in choice.targets}
    scores: dict[str, Tensor] = {}
    for layer in supernet.graph.layers:
        score = IMPORTANCE[importance](modules[layer.name], layer)
        if score is not None:
            _add_up(scores, elastic, layer.writes, score / score.mean().clamp_min(1e-12))
    orders = {name: torch.argsort(score, descending=True, stable=True) for name, score in scores.items()}
    for layer in supernet.graph.layers:
        module = modules[layer.name]
        assert isinstance(module, Elastic)
        sides = {"reads": _permutation(layer.reads, orders), "writes": _permutation(layer.writes, orders)}
        for name, axes in module.AXES.items():
            tensor = getattr(module, name)
            if tensor is None:
                continue
            for axis, side in enumerate(axes):
                permutation = None if side is None else sides[side]
                if permutation is not None:
                    tensor.copy_(tensor.index_select(axis, permutation.to(tensor.device)))


def _add_up(scores: dict[str, Tensor], elastic: set[str], label: Label, score: Tensor) -> None:
    start = 0
    for segment in label:
        if segment.group in elastic:
            own = score[start : start + segment.size].reshape(segment.units, segment.repeat).sum(1)
            scores[segment.group] = scores[segment.group] + own if segment.group in scores else own
        start += segment.size


def _permutation(label: Label, orders: dict[str, Tensor]) -> Tensor | None:
    """New positions along an axis, or None where nothing moves."""
    if not any(segment.group in orders for segment in label):
        return None
    pieces, start = [], 0
    for segment in label:
        units = orders.get(segment.group) if segment.group else None
        if units is None:
            units = torch.arange(segment.units)
        within = torch.arange(segment.repeat)
        pieces.append(start + (units.cpu()[:, None] * segment.repeat + within).flatten())
        start += segment.size
    return torch.cat(pieces)
