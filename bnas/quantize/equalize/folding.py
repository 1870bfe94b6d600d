"""Batch norms become part of the layer before them, or of the one after them.

In eval mode a batch norm is y = a·x + d for each channel, a = γ/√(σ² + ε), d = β − a·μ. After a layer with weights W
and bias b: W' = a·W, b' = a·b + d. Before one: W' = W·a along its inputs, b' = b + Σ W·d, which is exact unless the
layer meets zeros that were never shifted by d: zero padding.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bnas.graph.flow import FROZEN, NORMS, Flow, Link, flow
from bnas.quantize.equalize.config import Folded, Skipped
from bnas.quantize.equalize.weights import (
    add_to_bias,
    no_bias_possible,
    outputs,
    per_channel,
    response,
    scale_inputs,
    scale_outputs,
)

_FORWARDS = {kind.forward for kind in (*NORMS, FROZEN)}


@dataclass
class Spread:
    """How the outputs of a layer are spread, as the batch norm after it said: float64 [outputs] each.

    mean is β, deviation |γ| (Nagel et al. 2019, §4.1.3: a normal distribution is assumed).
    """

    mean: Tensor
    deviation: Tensor

    def scale(self, factors: Tensor) -> None:
        self.mean, self.deviation = self.mean * factors, self.deviation * factors


@dataclass
class Folding:
    """What folding leaves: the flow of the module without its norms, and how the outputs of layers are spread."""

    flow: Flow
    spreads: dict[str, Spread] = field(default_factory=dict)
    folded: list[Folded] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def fold_norms(module: nn.Module, example: Tensor) -> Folding:
    """Fold every batch norm of `module` that can be, in place; each is replaced by an `nn.Identity`."""
    folded: list[Folded] = []
    spreads: dict[str, Spread] = {}
    while True:  # again, as a norm may follow a norm
        facts = flow(module, example)
        gone: set[str] = set()
        for place in ("after", "before"):
            for link in facts.links:
                norm, layer = _pair(link, place)
                if norm in gone or facts.kinds[norm] != "norm" or facts.kinds[layer] == "norm":
                    continue
                if _refusal(module, facts, link, place) is None:
                    _fold(module, link, place, spreads)
                    gone.add(norm)
                    folded.append(Folded(norm=norm, into=layer, place=place))
        if not gone:
            left = [path for path, kind in facts.kinds.items() if kind == "norm"]
            skipped = [_skipped(module, facts, norm) for norm in left]
            return Folding(flow=facts, spreads=spreads, folded=folded, skipped=skipped)


def _pair(link: Link, place: str) -> tuple[str, str]:
    """The norm of a link, and the layer that it comes `after` or `before`."""
    return (link.reader, link.writer) if place == "after" else (link.writer, link.reader)


def _fold(module: nn.Module, link: Link, place: str, spreads: dict[str, Spread]) -> None:
    norm, layer = map(module.get_submodule, _pair(link, place))
    factor, shift = affine(norm)
    if place == "after":
        scale_outputs(layer, factor)
        add_to_bias(layer, shift)
        spreads[link.writer] = _spread(norm)
    else:
        moved = response(layer, per_channel(link.channels, shift, 0.0))
        if bool(moved.any()):
            add_to_bias(layer, moved)
        scale_inputs(layer, per_channel(link.channels, factor, 1.0))
    identity = nn.Identity().eval()
    for parent in module.modules():
        for name, child in parent._modules.items():
            if child is norm:  # perhaps by two names
                parent._modules[name] = identity


def affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Factor and shift of each channel of a batch norm in eval mode, float64."""
    mean, variance = norm.get_buffer("running_mean").double(), norm.get_buffer("running_var").double()
    gamma, beta = _learnt(norm, "weight"), _learnt(norm, "bias")
    factor = (variance + float(norm.eps)).rsqrt()  # type: ignore[arg-type]
    factor = factor if gamma is None else factor * gamma
    return factor, -mean * factor if beta is None else beta - mean * factor


def _learnt(norm: nn.Module, name: str) -> Tensor | None:
    """γ or β, a parameter, or a buffer of a frozen norm; None where there is none."""
    own = getattr(norm, name)
    return own.detach().double() if isinstance(own, Tensor) else None


def _spread(norm: nn.Module) -> Spread:
    gamma, beta = _learnt(norm, "weight"), _learnt(norm, "bias")
    size = norm.get_buffer("running_mean").double()
    return Spread(
        torch.zeros_like(size) if beta is None else beta,
        torch.ones_like(size) if gamma is None else gamma.abs(),
    )


def _refusal(module: nn.Module, facts: Flow, link: Link, place: str) -> str | None:
    """Why the norm of a link cannot be folded into the layer that it comes `after` or `before`; None: it can."""
    norm, layer = _pair(link, place)
    own, kind = module.get_submodule(layer), type(module.get_submodule(norm))
    if kind.forward not in _FORWARDS:
        return f"{kind.__name__} has a forward of its own, which may do more than a batch norm"
    if link.between:
        return f"{', '.join(link.between)} lies between it and {layer}"
    if place == "after":
        if not link.whole or len(link.channels) != outputs(own):
            return f"its channels are not just those of {layer}, in order"
        return f"zeros are put between it and {layer}" if link.padded else no_bias_possible(own)
    if bool(affine(module.get_submodule(norm))[1].any()):
        if facts.kinds[layer] == "transposed":
            return (
                f"{layer} is a transposed convolution, to whose outputs its shift would add different amounts"
            )
        if link.padded:
            return f"{layer} pads with zeros, which its shift would not reach"
    return no_bias_possible(own)


def _skipped(module: nn.Module, facts: Flow, norm: str) -> Skipped:
    reasons = []
    before = [link for link in facts.links if link.reader == norm]
    for link in before:
        if facts.kinds[link.writer] != "norm":
            reasons.append(_refusal(module, facts, link, "after"))
    after = facts.link_of.get(norm)
    if after is None:
        reasons.append(facts.ends[norm])
    elif facts.kinds[after.reader] != "norm":
        reasons.append(_refusal(module, facts, after, "before"))
    if not before:
        reasons.insert(0, "what it reads is no single layer's, or goes elsewhere too")
    return Skipped(step="fold_norms", layer=norm, reason="; ".join(dict.fromkeys(filter(None, reasons))))
