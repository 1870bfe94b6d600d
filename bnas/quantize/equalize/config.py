"""What may be chosen of equalization, and what it tells of what it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from torch import nn

from bnas.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Equalize:
    """Options of `equalize`; the defaults are what AIMET does.

    fold_norms: fold batch norms into the layers before, or after, them.
    scale: even out the ranges of the channels of layers that follow one another.
    absorb: move high biases into the next layer; changes the outputs a little, needs `fold_norms`.
    linear: scale linear layers too, not only convolutions.
    iterations: how many times all layers are scaled in turn, at most; with 20 factors mostly settle.
    tolerance: no further time once no factor differed from 1 by more than this.
    """

    fold_norms: bool = True
    scale: bool = True
    absorb: bool = True
    linear: bool = False
    iterations: int = 1
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ConfigError(f"equalize.iterations: expected at least 1, got {self.iterations}")
        if not 0 <= self.tolerance < 1:
            raise ConfigError(f"equalize.tolerance: expected 0 or more, below 1, got {self.tolerance}")


@dataclass(frozen=True, kw_only=True)
class Folded:
    """The batch norm `norm`, now an `nn.Identity`, is part of the layer `into`, `before` or `after` it."""

    norm: str
    into: str
    place: str


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """Layers that were scaled together: two, or more where all but the outer ones are depthwise.

    precision: before and after, the mean over the channels of p¹·p², p being a channel's range of weights ÷ that of the
        whole layer: what scaling makes as large as it can be (Nagel et al. 2019, §4.1.2); of several links the least.
    """

    layers: tuple[str, ...]
    precision: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Absorbed:
    """Of `channels` channels of `writer` a high bias went to the bias of `reader`."""

    writer: str
    reader: str
    channels: int


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A layer to which a step (`fold_norms`, `scale`, `absorb`) was not done, and why."""

    step: str
    layer: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Equalized:
    """An equalized copy of a model, in eval mode, and what was done to it.

    differences: by the step, the largest difference that it made to an output for the example, relative to the
    largest number in that output. Folding and scaling differ by rounding only; absorbing does not.
    iterations: how many times all layers were scaled.
    """

    module: nn.Module
    folded: tuple[Folded, ...] = ()
    scaled: tuple[Scaled, ...] = ()
    absorbed: tuple[Absorbed, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    differences: Mapping[str, float] = field(default_factory=dict)
    iterations: int = 0

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of layers that were scaled, in order: one that makes channels and the one that reads them."""
        return tuple(pair for found in self.scaled for pair in pairwise(found.layers))

    @property
    def summary(self) -> dict[str, Any]:
        """Plain data: how many norms were folded, pairs scaled and high biases moved on, by how much each step changed
        the outputs, and by step and layer why what was left alone was.
        """
        skipped: dict[str, dict[str, str]] = {}
        for own in self.skipped:
            skipped.setdefault(own.step, {})[own.layer] = own.reason
        return {
            "folded": len(self.folded),
            "scaled": len(self.pairs),
            "absorbed": len(self.absorbed),
            "iterations": self.iterations,
            "differences": dict(self.differences),
            "skipped": skipped,
        }
