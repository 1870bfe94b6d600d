"""Curves for TensorBoard, without gaps or doubled points where a training was killed and resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Curves:
    """Scalars by global step in event files; `Curves(None, …)` takes them and keeps nothing.

    Points at `purge_step` and later that an earlier process wrote are void: they are written again.
    """

    def __init__(self, folder: Path | None, purge_step: int) -> None:
        self._writer: SummaryWriter | None = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter  # a second to import, and seldom needed

            self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each named curve."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Put on disk what was added; called before each checkpoint, so that a resumed curve has no gap."""
        if self._writer is not None:
            self._writer.flush()

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()
