"""Weights that make a channel and weights that read it get one range (Nagel et al. 2019, §4.1).

Where f(s·x) = s·f(x), dividing what makes channel i by s_i > 0 and multiplying what reads it by s_i changes nothing.
The ranges r¹ and r² of both become equal, which gives channels of all layers the best precision together (§4.1.2 and
appendix A), with s_i = √(r¹_i·r²_i)/r²_i. With depthwise layers in between, each with one weight range r_i for a
channel, all k become their geometric mean t = (r¹·…·rᵏ)^(1/k): the factor after layer j is s_j = s_{j−1}·rʲ/t.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from bnas.graph.flow import Flow, Link
from bnas.quantize.equalize.config import Equalize, Scaled, Skipped
from bnas.quantize.equalize.folding import Spread
from bnas.quantize.equalize.weights import (
    input_ranges,
    is_depthwise,
    output_ranges,
    outputs,
    per_channel,
    scale_inputs,
    scale_outputs,
)

# Weights that are so small beside the largest of their layer count as zeros: their channel is a constant, and a factor
# that made them as large as others would make that constant larger than all else.
_DEAD = torch.finfo(torch.float32).eps

Chain = tuple[Link, ...]
"""Links of layers that are scaled together: those that are reader of one and writer of the next are depthwise."""


def chains(module: nn.Module, facts: Flow, config: Equalize) -> tuple[list[Chain], list[Skipped]]:
    """The links of `facts` in chains, in order of execution, and why the other layers are in none."""
    kinds = {"conv", "transposed", *(("linear",) if config.linear else ())}
    found: list[Chain] = []
    skipped: list[Skipped] = []
    used: set[str] = set()
    for path, kind in facts.kinds.items():
        if kind == "norm" or path in used:
            continue
        reason = _refusal(facts, path, kinds)
        if reason is not None:
            skipped.append(Skipped(step="scale", layer=path, reason=reason))
            continue
        chain = [facts.link_of[path]]
        while _goes_on(module, chain[-1]) and _refusal(facts, chain[-1].reader, kinds) is None:
            chain.append(facts.link_of[chain[-1].reader])
        used.update(link.writer for link in chain)
        found.append(tuple(chain))
    return found, skipped


def _refusal(facts: Flow, path: str, kinds: set[str]) -> str | None:
    link = facts.link_of.get(path)
    if link is None:
        return facts.ends[path]
    if facts.kinds[path] not in kinds:
        return "is a linear layer, and equalize.linear is false"
    if facts.kinds[link.reader] not in kinds:
        linear = facts.kinds[link.reader] == "linear"
        return f"is read by {link.reader}, " + (
            "a linear layer, and equalize.linear is false" if linear else "a batch norm that stays"
        )
    return None


def _goes_on(module: nn.Module, link: Link) -> bool:
    reader, writer = module.get_submodule(link.reader), module.get_submodule(link.writer)
    return is_depthwise(reader) and link.whole and len(link.channels) == outputs(writer)


def scale(
    module: nn.Module, found: list[Chain], spreads: dict[str, Spread], config: Equalize
) -> tuple[list[Scaled], int]:
    """Scale all chains in turn, in place, until that changes nothing more; says how many times it took."""
    before = [precision(module, chain) for chain in found]
    times = 0
    change = float("inf")
    while found and times < config.iterations and change > config.tolerance:
        change = max(_scale_once(module, chain, spreads) for chain in found)
        times += 1
    return [
        Scaled(
            layers=(chain[0].writer, *(link.reader for link in chain)),
            precision=(was, precision(module, chain)),
        )
        for chain, was in zip(found, before, strict=True)
    ], times


def _scale_once(module: nn.Module, chain: Chain, spreads: dict[str, Spread]) -> float:
    """Even out the ranges of one chain; says by how much a factor differed from 1 at most."""
    all_ranges = torch.stack(ranges(module, chain))
    dead = all_ranges <= all_ranges.amax(1, keepdim=True) * _DEAD
    usable = (torch.isfinite(all_ranges) & (all_ranges > 0) & ~dead).all(0)
    logarithms = torch.where(usable, all_ranges, 1.0).log()
    factors = (logarithms - logarithms.mean(0)).cumsum(0)[:-1].exp()  # one less than layers
    for link, factor in zip(chain, factors, strict=True):
        scale_outputs(module.get_submodule(link.writer), 1 / factor)
        scale_inputs(module.get_submodule(link.reader), per_channel(link.channels, factor, 1.0))
        if link.writer in spreads:
            spreads[link.writer].scale(1 / factor)
    return float((factors - 1).abs().max())


def ranges(module: nn.Module, chain: Chain) -> list[Tensor]:
    """For each layer of a chain, and each of its channels, the largest absolute weight: float64 [channels]."""
    found = [output_ranges(module.get_submodule(chain[0].writer))]
    for link in chain:
        own = input_ranges(module.get_submodule(link.reader))
        index = torch.tensor(link.channels, device=own.device)
        read = index >= 0
        found.append(torch.zeros_like(found[0]).scatter_reduce(0, index[read], own[read], "amax"))
    return found


def precision(module: nn.Module, chain: Chain) -> float:
    """The mean over the channels of p¹·p², the least over the links: p = r_i/max r (Nagel et al. 2019, §4.1.2)."""
    own = [values / values.max().clamp(min=1e-300) for values in ranges(module, chain)]
    return min(float((one * other).mean()) for one, other in pairwise(own))
