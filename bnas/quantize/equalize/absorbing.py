"""High biases move into the next layer (Nagel et al. 2019, §4.1.3).

Scaling may leave a channel with a bias that is large beside its spread, and so activations with ranges far apart. Where
x ≥ c ≥ 0, relu(x) = relu(x − c) + c, so that c may leave the bias of the first layer for that of the next:
b¹' = b¹ − c, b²' = b² + Σ W²·c. With the spread that the batch norm knew, c = max(0, β − 3·|γ|) is below all but 0.13 %
of the values if they are normal; without a rectifier in between there is no condition, and c = β. Neither holds where
the next layer pads with zeros. So this changes the outputs a little; `Equalized.differences` says by how much.
"""

from __future__ import annotations

import torch
from torch import nn

from bnas.graph.flow import Flow, Link
from bnas.graph.passing import KEEPS_SHIFT, RECTIFIERS
from bnas.quantize.equalize.config import Absorbed, Skipped
from bnas.quantize.equalize.folding import Spread
from bnas.quantize.equalize.scaling import Chain
from bnas.quantize.equalize.weights import add_to_bias, no_bias_possible, per_channel, response


def absorb(
    module: nn.Module, facts: Flow, found: list[Chain], spreads: dict[str, Spread]
) -> tuple[list[Absorbed], list[Skipped]]:
    """Move the high biases of all links of the chains, in place."""
    absorbed, skipped = [], []
    for link in (link for chain in found for link in chain):
        spread = spreads.get(link.writer)
        reason = "no batch norm was folded into it" if spread is None else _refusal(module, facts, link)
        if reason is not None or spread is None:
            skipped.append(Skipped(step="absorb", layer=link.writer, reason=reason or ""))
            continue
        rectified = not RECTIFIERS.isdisjoint(link.between)
        high = (spread.mean - 3 * spread.deviation).clamp(min=0) if rectified else spread.mean
        is_read = torch.zeros_like(high, dtype=torch.bool)
        is_read[[channel for channel in set(link.channels) if channel >= 0]] = True
        high = torch.where(is_read, high, 0.0)
        if not bool(high.any()):
            continue
        add_to_bias(module.get_submodule(link.writer), -high)
        reader = module.get_submodule(link.reader)
        add_to_bias(reader, response(reader, per_channel(link.channels, high, 0.0)))
        spread.mean = spread.mean - high
        absorbed.append(Absorbed(writer=link.writer, reader=link.reader, channels=int(high.count_nonzero())))
    return absorbed, skipped


def _refusal(module: nn.Module, facts: Flow, link: Link) -> str | None:
    unfit = [name for name in link.between if name not in RECTIFIERS | KEEPS_SHIFT]
    if unfit:
        return f"{', '.join(unfit)} lies between it and {link.reader}, and changes what is added"
    if facts.kinds[link.reader] == "transposed":
        return f"{link.reader} is a transposed convolution, which would add different amounts to its outputs"
    return no_bias_possible(module.get_submodule(link.reader))
