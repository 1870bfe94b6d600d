"""Small nets whose batch norms do something, and what two nets differ by."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d


class Net(nn.Module):
    """Layers by name, and a forward given as a function of them."""

    def __init__(self, forward: Callable[..., object], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._forward = forward

    def forward(self, x: Tensor) -> object:
        return self._forward(self, x)


def uneven(net: nn.Module) -> nn.Module:
    """The net in float64 and eval mode, with random statistics and with channels of very different ranges."""
    torch.manual_seed(3)
    net = net.double().eval()
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, FrozenBatchNorm2d)):
            module.running_mean.normal_()
            module.running_var.uniform_(0.3, 3)
            if module.weight is not None:
                module.weight.data.uniform_(0.2, 3).mul_(torch.randn_like(module.weight).sign())
                module.bias.data.normal_()
        elif isinstance(getattr(module, "weight", None), Tensor) and module.weight.ndim > 1:
            module.weight.data.mul_(
                torch.logspace(-1, 1, len(module.weight)).view(-1, *[1] * (module.weight.ndim - 1))
            )
    return net


def difference(one: nn.Module, other: nn.Module, x: Tensor) -> float:
    """The largest difference of two nets' outputs ÷ the largest output of the first."""
    with torch.no_grad():
        expected, found = one(x), other(x)
    return float((expected - found).abs().max() / expected.abs().max())


def image(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 3, 9, 9)), dtype=torch.float64)
