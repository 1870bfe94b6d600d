"""The steps of equalization, in their order, on a copy of a model."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from bnas.errors import ModelError
from bnas.graph.flow import flow
from bnas.graph.state import tensors_within
from bnas.quantize.equalize.absorbing import absorb
from bnas.quantize.equalize.config import Absorbed, Equalize, Equalized, Scaled
from bnas.quantize.equalize.folding import Folding, fold_norms
from bnas.quantize.equalize.scaling import chains, scale

# Of the outputs' largest number. Folding and scaling differ by rounding alone: by 1e-6 or so in float32.
_ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 0.2, torch.bfloat16: 0.5}
_TF32 = 1e-2  # GPUs compute convolutions of float32 with ten bits


@torch.no_grad()
def equalize(model: nn.Module, example: Tensor, config: Equalize | None = None) -> Equalized:
    """A copy of `model` whose weights suit one quantization scale per tensor better; `model` is left as it is.

    Batch norms are folded, then the ranges of the channels of layers that follow one another are evened out, then
    high biases are absorbed by the next layer (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization
    and Bias Correction", arXiv:1906.04721). No data are needed. Which layers follow one another, and with what in
    between, is found by running the model (`bnas.graph.flow`); a layer is left alone wherever something else reads
    it or an activation that is not scale-equivariant lies between (ReLU6, Hardswish, SiLU), and `skipped` says so.

    Args:
        model: called with a tensor; whatever it returns. Runs in eval mode.
        example: one input, as [n, C, H, W]; one image is enough.
        config: what is done; by default what AIMET does.

    Raises:
        ModelError: the model does not run on `example`; or a step that is exact up to rounding changed the outputs by
            more: something reads a layer in a way that torch does not show, or what the model computes is random.
    """
    config = config or Equalize()
    module = deepcopy(model).eval()
    differences: dict[str, float] = {}
    before = _outputs(module, example)

    def note(step: str, exact: bool) -> None:
        nonlocal before
        after = _outputs(module, example)
        differences[step] = largest_difference(before, after)
        if exact and not differences[step] <= _rounding((*before, *module.parameters())):
            raise ModelError(
                f"equalize: {step} changed an output of {type(model).__name__} by {differences[step]:.2g} of its "
                f"largest number, where it should change nothing; set equalize.{step}=false"
            )
        before = after

    state = Folding(flow=flow(module, example))
    if config.fold_norms:
        state = fold_norms(module, example)
        note("fold_norms", exact=True)
    found, skipped = chains(module, state.flow, config) if config.scale or config.absorb else ([], [])
    scaled: list[Scaled] = []
    absorbed: list[Absorbed] = []
    iterations = 0
    if config.scale:
        scaled, iterations = scale(module, found, state.spreads, config)
        note("scale", exact=True)
    if config.absorb:
        absorbed, unabsorbed = absorb(module, state.flow, found, state.spreads)
        skipped += unabsorbed
        note("absorb", exact=False)
    return Equalized(
        module=module,
        folded=tuple(state.folded),
        scaled=tuple(scaled),
        absorbed=tuple(absorbed),
        skipped=(*state.skipped, *skipped),
        differences=differences,
        iterations=iterations,
    )


def _outputs(module: nn.Module, example: Tensor) -> list[Tensor]:
    try:
        output = module(example)
    except Exception as error:  # what a model does with its input is its own affair
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{type(module).__name__} does not run on an input of shape {list(example.shape)}: {text}"
        ) from error
    return [tensor.clone() for tensor in tensors_within(output) if tensor.is_floating_point()]


def _rounding(tensors: Iterable[Tensor]) -> float:
    """By how much rounding may change the outputs of a model, if these are its parameters and outputs."""
    limits = (
        _TF32 if tensor.dtype == torch.float32 and tensor.is_cuda else _ROUNDING.get(tensor.dtype, 0.0)
        for tensor in tensors
    )
    return max(limits, default=0.0)


def largest_difference(before: list[Tensor], after: list[Tensor]) -> float:
    """Of each pair of outputs the largest difference ÷ the largest number of the first; of these the largest.

    What is no number (or infinite) is no difference where it is the same in both; elsewhere it is one of nan (inf).
    """
    found = [0.0]
    for one, other in zip(before, after, strict=True):
        if one.numel():
            one, other = one.double(), other.double()
            same = (one == other) | (one.isnan() & other.isnan())
            difference = torch.where(same, 0.0, (one - other).abs()).max()
            scale = torch.where(one.isfinite(), one.abs(), 0.0).max().clamp(min=1e-30)
            found.append(float(difference / scale))
    return float(
        torch.tensor(found, dtype=torch.float64).max()
    )  # unlike that of Python it does not pass over nan
