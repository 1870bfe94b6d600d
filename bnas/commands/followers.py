"""Commands under torchrun: its first process does them, and the others follow it into each training.

The leading process (rank 0) works as if it were alone: it locks the run folder, and it alone writes and prints.
Before a stage that trains with data parallelism it announces the stage; the others, who have opened the same run
from the same command line, then run the stage's function too, and come back to wait for the next announcement.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bnas.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Work

    from bnas.commands.project import Project

TRAININGS = ("pretrain", "train", "finetune")  # announced by their place, from 1
DISMISSED, OPENED = 0, -1  # the other announcements
POLL_SECONDS = 0.05
GRACE_SECONDS = 15.0


def follows() -> bool:
    """Whether torchrun started this process as another than its first; imports nothing heavy to say so."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and int(os.environ.get("RANK", "0")) > 0


def processes_here() -> int:
    """How many processes torchrun started on this machine, who share its cores; 1 without torchrun."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


@contextmanager
def leading() -> Iterator[None]:
    """Around what the leading process does once its run is open; dismisses the others at the end.

    After an error there is no such announcement, as they may be in the midst of a training: they learn of it when
    this process, having told the error, has ended.

    Raises:
        RunError: another process has ended, which has said why.
    """
    try:
        _announced(OPENED)
        yield
        _announced(DISMISSED)
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        raise RunError(
            "another process of this training has ended, see what it printed; "
            "the same command goes on from the last checkpoint"
        ) from error


def announce(stage: str, project: Project) -> None:
    """Let the other processes, if there are any, begin this stage as well, where it is a training."""
    from bnas.train.distributed import world

    if stage in TRAININGS and world().size > 1:
        _ = project.data  # what has to be prepared on the disk first is there when the others look
        _announced(1 + TRAININGS.index(stage))


def follow(opened: Callable[[], Project]) -> None:
    """Take part in every stage that the leading process announces, until it dismisses this one.

    Raises:
        Any error that the leading process does not have. Where that one ends with an error, this does silently.
    """
    try:
        project = opened()
        while (number := _announced()) != DISMISSED:
            if number > 0:
                _take_part(TRAININGS[number - 1], project)
    except Exception as error:
        if _is_lost(error) or _leader_ends():
            raise SystemExit(1) from error  # it has said why
        raise


def _take_part(stage: str, project: Project) -> None:
    if not project.folder.exists():
        raise RunError(
            f"{project.folder} does not exist on this machine; a run on several machines needs a folder that they "
            "share: runs=/path/on/all/machines"
        )
    getattr(importlib.import_module(f"bnas.commands.{stage}"), stage)(project)


def _leader_ends() -> bool:
    """Whether the leading process ends, now that this one has met an error, which may be its error, too.

    It has none if it announces something, or is not gone after a while: then it waits for this one in a step.
    """
    work, _ = _broadcast(0)
    until = time.monotonic() + GRACE_SECONDS
    while not work.is_completed():
        if time.monotonic() > until:
            return False
        time.sleep(POLL_SECONDS)
    return work.exception() is not None


def _announced(number: int = 0) -> int:
    """The leading process's number, in all of them. Waits without holding a Ctrl-C up."""
    from bnas.train.distributed import world

    if world().size == 1:
        return number
    work, numbers = _broadcast(number)
    while not work.is_completed():
        time.sleep(POLL_SECONDS)
    work.wait()
    return int(numbers.item())


def _broadcast(number: int) -> tuple[Work, Tensor]:
    import torch
    from torch import distributed

    from bnas.train.distributed import world

    numbers = torch.tensor([number], dtype=torch.int32, device=world().device)
    work = distributed.broadcast(numbers, src=0, async_op=True)
    assert work is not None
    return work, numbers


def _is_lost(error: BaseException) -> bool:
    """Whether the connection to another process is gone; torch has no exception of its own for it."""
    words = ("gloo", "NCCL", "Connection closed by peer")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
