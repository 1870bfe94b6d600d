"""Weights of all kinds of layers in one form, so that one formula fits all of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnas.graph.flow import CONVOLUTIONS, TRANSPOSED

_FORWARDS = {kind.forward for kind in (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)}


def by_channels(layer: nn.Module) -> Tensor:
    """A view of the weights of a layer: [groups, outputs of a group, inputs of a group, positions of the kernel].

    Input channel i is input i % n of group i // n, n being the inputs of a group; outputs likewise.
    """
    weight, groups = layer.get_parameter("weight").detach(), getattr(layer, "groups", 1)
    ones, others = weight.shape[0] // groups, weight.shape[1]
    if isinstance(layer, TRANSPOSED):
        return weight.view(groups, ones, others, -1).transpose(1, 2)
    return weight.view(groups, ones, others, -1)


def outputs(layer: nn.Module) -> int:
    weight = by_channels(layer)
    return weight.shape[0] * weight.shape[1]


def is_depthwise(layer: nn.Module) -> bool:
    """Whether each output channel is made of the one input channel of the same number."""
    weight = by_channels(layer)
    return weight.shape[0] > 1 and weight.shape[1:3] == (1, 1)


def output_ranges(layer: nn.Module) -> Tensor:
    """For each output channel the largest absolute weight that makes it, float64 [outputs]."""
    return by_channels(layer).abs().amax(3).amax(2).flatten().double()


def input_ranges(layer: nn.Module) -> Tensor:
    """For each input channel the largest absolute weight that reads it, float64 [inputs]."""
    return by_channels(layer).abs().amax(3).amax(1).flatten().double()


def scale_outputs(layer: nn.Module, factors: Tensor) -> None:
    """Multiply what makes each output channel, its bias too, by one of `factors`, float64 [outputs]."""
    weight = by_channels(layer)
    weight.mul_(factors.view(*weight.shape[:2], 1, 1).to(weight.dtype))
    if layer.bias is not None:
        bias = layer.get_parameter("bias").detach()
        bias.copy_(bias.double() * factors)


def scale_inputs(layer: nn.Module, factors: Tensor) -> None:
    """Multiply the weights that read each input channel by one of `factors`, float64 [inputs]."""
    weight = by_channels(layer)
    weight.mul_(factors.view(len(weight), 1, -1, 1).to(weight.dtype))


def response(layer: nn.Module, constants: Tensor) -> Tensor:
    """What a layer adds to each output channel if so much is added to its input channels: float64 [outputs].

    That is where its whole kernel lies within the input. Not for transposed convolutions, whose outputs meet
    different parts of the kernel.
    """
    weight = by_channels(layer).double().sum(3)
    return (weight @ constants.view(len(weight), -1, 1)).flatten()


def add_to_bias(layer: nn.Module, added: Tensor) -> None:
    """Add float64 [outputs] to the bias of a layer, which gets one where it has none."""
    weight = layer.get_parameter("weight")
    old = 0.0 if layer.bias is None else layer.get_parameter("bias").detach().double()
    new = (old + added).to(weight.dtype)
    if layer.bias is None:
        layer.bias = nn.Parameter(new, requires_grad=weight.requires_grad)
    else:
        layer.get_parameter("bias").detach().copy_(new)


def no_bias_possible(layer: nn.Module) -> str | None:
    """Why a layer cannot be given a bias; None where it can, or has one."""
    if layer.bias is None and type(layer).forward not in _FORWARDS:
        return f"{type(layer).__name__} has no bias, and a forward of its own that may not add one"
    return None


def per_channel(channels: tuple[int, ...], values: Tensor, otherwise: float) -> Tensor:
    """For each input channel of a reader the value of the writer's channel that it is; -1 is none of them."""
    index = torch.tensor(channels, device=values.device)
    return torch.where(index >= 0, values[index.clamp(min=0)], otherwise)
