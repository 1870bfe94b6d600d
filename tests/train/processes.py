"""Two real processes on this machine that talk over loopback, and what each of them computes for the tests.

As a program it is one of them: `python processes.py FILE` leaves in FILE what its functions return.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from toy import SIDE, toy_supernet

from bnas.errors import ConfigError
from bnas.train import distributed
from bnas.train.distributed import (
    agreed,
    alike,
    average,
    average_gradients,
    joined,
    share_of,
    spread,
    synchronized_norms,
    world,
)

SIZE = 2
SHARES = (slice(0, 5), slice(5, 8))  # of eight images: unequal, which batch norm has to weigh


@cache
def results() -> list[dict[str, Any]]:
    """What `exchange` and `norms` return in each of two processes, which are started once."""
    with tempfile.TemporaryDirectory() as folder:
        return _started(Path(folder))


def _started(folder: Path) -> list[dict[str, Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    files = [folder / f"{rank}.pt" for rank in range(SIZE)]
    common = {"WORLD_SIZE": str(SIZE), "LOCAL_WORLD_SIZE": str(SIZE), "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": port, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    common |= {"PYTHONPATH": str(Path(__file__).parents[2]), "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", __file__, str(file)],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, file in enumerate(files)
    ]
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0] * SIZE, "\n".join(errors)
    return [torch.load(file, weights_only=True) for file in files]


def gradients_of(rank: int) -> list[Tensor | None]:
    """Gradients as a process has them before averaging, of several shapes, layouts and dtypes; one is None."""
    generator = torch.Generator().manual_seed(100 + rank)
    weight = torch.randn(4, 3, 2, 2, generator=generator).contiguous(memory_format=torch.channels_last)
    return [
        torch.randn(7, generator=generator),
        None,
        weight,
        torch.randn(5, 6, generator=generator).t(),
        torch.randn(3, dtype=torch.float64, generator=generator),
        torch.randn((), generator=generator),
    ]


def exchange() -> dict[str, Any]:
    """What the functions of bnas.train.distributed return."""
    own = world()
    results: dict[str, Any] = {"rank": own.rank, "size": own.size, "leads": own.leads}
    distributed.BUCKET_BYTES = 64  # several buckets of these few numbers
    parameters = []
    for gradient in gradients_of(own.rank):
        parameter = torch.zeros(
            3 if gradient is None else gradient.shape, dtype=getattr(gradient, "dtype", None)
        )
        parameter.grad = gradient
        parameters.append(parameter)
    average_gradients(parameters)
    results["gradients"] = [parameter.grad for parameter in parameters]
    values = torch.tensor([1.0 + own.rank, -4.0])
    results["average"], results["averaged"] = average(values), values
    results["agreed"] = [agreed(False), agreed(own.rank == 1), agreed(True)]
    results["alike"] = [alike(3), alike(own.rank)]
    told = [torch.full((2, 2), float(own.rank)), torch.full((3, 2), own.rank).t()]
    spread(told)
    results["spread"] = told
    results["share"] = share_of(16, own)
    try:
        share_of(15, own)
    except ConfigError as error:
        results["error"] = str(error)
    with joined() as again:  # a group that is there is taken as it is, and stays
        results["again"] = again == own
    results["still"] = world().size
    return results


def norm_cases() -> dict[str, tuple[nn.Module, Tensor, Tensor]]:
    """(norm, whole batch of 8, gradient of its output) by name."""
    generator = torch.Generator().manual_seed(5)

    def case(norm: nn.Module, *shape: int, dtype: torch.dtype | None = None, mean: float = 3.0) -> Any:
        norm.train()
        for parameter in norm.parameters():
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) + 1)
        x = torch.randn(8, *shape, generator=generator, dtype=torch.float64) * 2 + mean
        grad = torch.randn(8, *shape, generator=generator, dtype=torch.float64)
        # the processes' images differ in their statistics too, or the mean of variances would do
        x[SHARES[1]] *= 2
        dtype = dtype or torch.float32
        return norm, x.to(dtype), grad.to(dtype)

    _, x, grad = case(nn.BatchNorm2d(3), 3, 4, 4)
    last = torch.channels_last
    return {
        "2d": case(nn.BatchNorm2d(3), 3, 4, 4),
        "channels last": (
            nn.BatchNorm2d(3),
            x.contiguous(memory_format=last),
            grad.contiguous(memory_format=last),
        ),
        "1d": case(nn.BatchNorm1d(6), 6),
        "sequence": case(nn.BatchNorm1d(6), 6, 5),
        "3d": case(nn.BatchNorm3d(2), 2, 3, 3, 3),
        "double": case(nn.BatchNorm2d(3).double(), 3, 4, 4, dtype=torch.float64),
        "bfloat16 images": case(nn.BatchNorm2d(3), 3, 4, 4, dtype=torch.bfloat16),
        "far from zero": case(nn.BatchNorm2d(3), 3, 4, 4, mean=3000.0),
        "no weights": case(nn.BatchNorm2d(3, affine=False), 3, 4, 4),
        "no running statistics": case(nn.BatchNorm2d(3, track_running_stats=False), 3, 4, 4),
        "cumulative average": case(nn.BatchNorm2d(3, momentum=None), 3, 4, 4),
    }


def passed(norm: nn.Module, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """Output, gradients and state of two passes in training mode, and the output of one in eval mode."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    norm(x.detach() * 0.5)
    y = norm(x)
    y.backward(grad)
    assert x.grad is not None
    result = {"y": y.detach(), "x": x.grad, **norm.state_dict()}
    result |= {f"{name}.grad": own.grad for name, own in norm.named_parameters() if own.grad is not None}
    norm.eval()
    return {**result, "eval": norm(x.detach()).detach()}


def supernet_passed(share: slice, recompute: bool) -> dict[str, Tensor]:
    """Gradients and state of a step over the largest and the smallest subnet of a supernet."""
    supernet = toy_supernet()
    supernet.model.train()
    supernet.model.dropout.p = 0.0  # draws other numbers for every image of a batch
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(8, 1, SIDE, SIDE, generator=generator)[share]
    labels = torch.randint(4, (8,), generator=generator)[share]
    for subnet in (supernet.space.largest, supernet.space.smallest):
        supernet.activate(subnet)
        outputs = checkpoint(supernet, x, use_reentrant=False) if recompute else supernet(x)
        # a mean over the whole batch, whatever share of it this is
        (functional.cross_entropy(outputs, labels, reduction="sum") / 8).backward()
    state = supernet.model.state_dict()
    gradients = {f"{name}.grad": own.grad for name, own in supernet.model.named_parameters()}
    return {**state, **{name: own for name, own in gradients.items() if own is not None}}


def norms() -> dict[str, Any]:
    """The cases' results for this process's share, and what a supernet's step makes of it."""
    share = SHARES[world().rank]
    own = functional.batch_norm
    with synchronized_norms(False):
        assert functional.batch_norm is own
    results: dict[str, Any] = {}
    with synchronized_norms(True):
        for name, (norm, x, grad) in norm_cases().items():
            results[name] = passed(norm, x[share], grad[share])
        results["supernet"] = supernet_passed(share, recompute=False)
        results["recomputed"] = supernet_passed(share, recompute=True)
    assert functional.batch_norm is own
    return results


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined():
        torch.save({"exchange": exchange(), "norms": norms()}, sys.argv[1])
