"""Batch norms that see the images of all processes, as if one process had the whole batch.

torch's own nn.SyncBatchNorm runs on GPUs only and is a module of another class, which elastic modules and state
dicts would have to know of; this takes the place of the function that every batch norm calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


@contextmanager
def synchronized_norms(enabled: bool) -> Iterator[None]:
    """Let batch norms in training mode use the mean and variance of all processes' images.

    Outputs, gradients and running statistics are those of one process that has all of the images. Inside, every
    process must run the same batch norms, forward and backward, in the same order: evaluation by one process
    alone belongs outside. Nothing changes where `enabled` is false or there is one process.
    """
    if not enabled or _processes() == 1:
        yield
        return
    own, functional.batch_norm = functional.batch_norm, batch_norm
    try:
        yield
    finally:
        functional.batch_norm = own


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """torch.nn.functional.batch_norm; in training over the images [n, C, ...] of all processes."""
    if not training:
        return _normalised(input, weight, bias, running_mean, running_var, eps)
    y: Tensor = _BatchNorm.apply(input, weight, bias, running_mean, running_var, momentum, eps)
    return y


class _BatchNorm(torch.autograd.Function):
    """Ioffe & Szegedy 2015, algorithm 1 and its gradient, with sums over all processes.

    The passes over the images are torch's own kernels of batch norm with given statistics.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        count, mean, var = _statistics(x)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * count / (count - 1)).to(running_var.dtype), momentum)
        ctx.save_for_backward(x, weight, count, mean, var)
        ctx.eps = eps
        ctx.bias_dtype = None if bias is None else bias.dtype
        own_weight = None if weight is None else weight.to(mean.dtype)
        own_bias = None if bias is None else bias.to(mean.dtype)
        return _normalised(x, own_weight, own_bias, mean, var, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, count, mean, var = ctx.saved_tensors
        scale = torch.ones_like(mean) if weight is None else weight.to(mean.dtype)
        needed = ctx.needs_input_grad[0]
        # as if the statistics were constants; sums over this process's images of grad * (x - mean) / std, grad
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, scale, mean, var, None, None, False, ctx.eps, [needed, True, True]
        )
        if needed:
            sums = torch.stack((grad_weight, grad_bias))
            dist.all_reduce(sums)
            std = (var + ctx.eps).sqrt()
            slope = -scale * sums[0] / (count * std.square())
            offset = -scale * sums[1] / (count * std) - slope * mean
            # what they are not: the gradient through mean and variance is slope * x + offset, by channel
            grad_x += _normalised(x, slope, offset, torch.zeros_like(mean), torch.ones_like(var), 0.0)
        grad_weight = None if weight is None else grad_weight.to(weight.dtype)
        grad_bias = None if ctx.bias_dtype is None else grad_bias.to(ctx.bias_dtype)
        return grad_x if needed else None, grad_weight, grad_bias, None, None, None, None


def _normalised(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor | None, var: Tensor | None, eps: float
) -> Tensor:
    """Batch norm with given statistics."""
    return torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, torch.backends.cudnn.enabled)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values per channel [], and their mean and biased variance [C], of the images of all processes.

    Each process's own are put together as in Chan et al. 1979, "Updating formulae and a pairwise algorithm for
    computing sample variances", which loses no digits where the mean is large.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    channels = x.shape[1]
    unused = x.new_zeros(channels, dtype=dtype)
    mean, var = torch.batch_norm_update_stats(x, unused, unused.clone(), 0.0)
    count = mean.new_full((1,), x.numel() // channels, dtype=torch.float64)
    own = torch.cat((count, mean.double(), var.double()))
    every = own.new_empty(_processes(), len(own))
    dist.all_gather(list(every.unbind()), own)
    counts, means, variances = every[:, :1], every[:, 1 : channels + 1], every[:, channels + 1 :]
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    var = (counts * (variances + (means - mean).square())).sum(0) / total
    return total.to(dtype), mean.to(dtype), var.to(dtype)
