"""Training in many processes: who is in it, and what they tell one another.

Every process holds the whole network, takes its share of each batch, and trains the same subnets. Before the
optimizer's step the gradients are averaged, so that all processes make the same step; that is all there is to
data parallelism here. Why not nn.parallel.DistributedDataParallel: docs/decisions/0009-data-parallel.md.

With one process nothing here does, or costs, anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from bnas.errors import ConfigError
from bnas.train.sync_norms import synchronized_norms

__all__ = [
    "World",
    "agreed",
    "alike",
    "average",
    "average_gradients",
    "joined",
    "share_of",
    "spread",
    "synchronized_norms",
    "training_device",
    "world",
]

BUCKET_BYTES = 25 << 20  # averaged at once: enough for the network's speed, little memory
# One process may search for hours while the others wait for the next training, which is no error.
PATIENCE = timedelta(days=30)


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes of a training, as one of them sees it.

    rank: its number, from 0. size: how many there are. device: where it keeps what it tells the others.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes and prints."""
        return self.rank == 0


ALONE = World(rank=0, size=1, device=torch.device("cpu"))


def world() -> World:
    """The processes of torch.distributed's group, whoever made it; one process where there is none."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    speaks_cpu = "cpu" in dist.get_backend_config()
    device = torch.device("cpu") if speaks_cpu else torch.device("cuda", torch.cuda.current_device())
    return World(rank=dist.get_rank(), size=dist.get_world_size(), device=device)


@contextmanager
def joined() -> Iterator[World]:
    """Be one of the processes that torchrun started; nothing where it started one, or the group is there.

    On CUDA tensors they speak NCCL, on the CPU's gloo. Reads torchrun's RANK, WORLD_SIZE and LOCAL_RANK.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ or world().size > 1:
        yield world()
        return
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "cpu:gloo"
    store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    # after a restart (--max-restarts) the store still has the addresses of the processes that are gone
    store = PrefixStore(f"attempt/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    yield world()
    dist.destroy_process_group()  # after an error the end of this process tells the others: NCCL might wait here


def training_device(name: str) -> torch.device:
    """The device that `LoopConfig.device` means in this process.

    Raises:
        ConfigError: no such device here, or it is not one that each process can have for itself.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    kind, colon, index = name.partition(":")
    if name != "auto" and (kind != "cuda" or (colon and not index.isdecimal())):
        raise ConfigError(f"device: must be auto, cpu, cuda or cuda:0, cuda:1, …, got {name!r}")
    found = torch.cuda.device_count()
    if found == 0:
        raise ConfigError(f"device: no CUDA device here, got {name!r}; use auto or cpu")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world().size > 1 else 1
    if here > found:
        asked = f"{here} processes on this machine and {found} CUDA device{'s' * (found > 1)}"
        raise ConfigError(f"device: {asked}; start torchrun with --nproc-per-node={found}, or use cpu")
    if not colon:
        return torch.device("cuda", torch.cuda.current_device())
    if here > 1:
        raise ConfigError(
            f"device: {here} processes on this machine, each with its own; use cuda, not {name!r}"
        )
    if int(index) >= found:
        raise ConfigError(f"device: CUDA devices here are cuda:0 to cuda:{found - 1}, got {name!r}")
    return torch.device(name)


def share_of(batch_size: int, world: World) -> int:
    """Images of a batch that each process takes.

    Raises:
        ConfigError: they cannot all have equally many.
    """
    share, left = divmod(batch_size, world.size)
    if left or share == 0:
        fits = max(batch_size - left, world.size)
        raise ConfigError(
            f"batch_size: must be a multiple of the number of processes ({world.size}), such as {fits}, "
            f"got {batch_size}"
        )
    return share


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over all processes, in place; None stays None.

    A parameter has a gradient in all processes or in none: all run the same subnets.
    """
    size = world().size
    if size == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        dist.all_reduce(flat)
        flat /= size
        at = 0
        for gradient in bucket:
            gradient.copy_(flat[at : at + gradient.numel()].view(gradient.shape))
            at += gradient.numel()


def _buckets(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients in order, in runs of one dtype and device and of about BUCKET_BYTES."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        same = not bucket or (gradient.dtype, gradient.device) == (bucket[0].dtype, bucket[0].device)
        if not same or size >= BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.numel() * gradient.element_size()
    if bucket:
        yield bucket


def average(values: Tensor) -> Tensor:
    """The mean of `values` (floating point, of one shape everywhere) over all processes, as a new tensor."""
    own = world()
    if own.size == 1:
        return values.clone()
    total = values.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total / own.size


def agreed(flag: bool) -> bool:
    """Whether the flag is set in any process; the same answer in all."""
    own = world()
    if own.size == 1:
        return flag
    flags = torch.tensor([int(flag)], dtype=torch.int32, device=own.device)
    dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    return bool(flags.item())


def alike(number: int) -> bool:
    """Whether all processes have the same number; the same answer in all."""
    own = world()
    if own.size == 1:
        return True
    ends = torch.tensor([number, -number], dtype=torch.int64, device=own.device)
    dist.all_reduce(ends, op=dist.ReduceOp.MAX)
    return int(ends[0]) == -int(ends[1])


@torch.no_grad()
def spread(tensors: Iterable[Tensor]) -> None:
    """Give all processes the leading one's values of these tensors, in place."""
    if world().size == 1:
        return
    for tensor in tensors:
        whole = tensor.contiguous()
        dist.broadcast(whole, src=0)
        if whole is not tensor:
            tensor.copy_(whole)
