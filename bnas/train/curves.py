"""Curves of a training: for TensorBoard, and as history.jsonl for `bnas show train`.

Neither has gaps or doubled points where a training was killed and resumed. The history holds no time of day, so
that a resumed training leaves the lines of an undisturbed one (but for its speed).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from bnas.errors import ConfigError, RunError
from bnas.files import cannot_write, read_jsonl, write_text
from bnas.plain import flat, from_plain, to_plain

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

HISTORY = "history.jsonl"
_BINS = 30  # of a histogram in TensorBoard, which draws that many


@dataclass(frozen=True, kw_only=True)
class Point:
    """What was told at one step: `values` of curves by name, and all that was `drawn` since the point before."""

    step: int
    values: Mapping[str, float] = field(default_factory=dict)
    drawn: Mapping[str, tuple[float, ...]] = field(default_factory=dict, metadata={"plain": "unless default"})


class Curves:
    """Scalars and histograms by global step; `Curves(None, …)` takes them and keeps nothing.

    Points at `purge_step` and later that an earlier process wrote are void: they are written again.

    Raises:
        RunError: the history cannot be written.
    """

    def __init__(self, folder: Path | None, purge_step: int) -> None:
        self._writer: SummaryWriter | None = None
        self._history: _History | None = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter  # a second to import, and seldom needed

            self._history = _History(folder / HISTORY, purge_step)
            self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each named curve."""
        if self._writer is not None and self._history is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._history.add(Point(step=step, values={name: float(x) for name, x in values.items()}))

    def histogram(self, step: int, name: str, values: Sequence[float]) -> None:
        """What was drawn since the point before, as the MACs of subnets; of no values there is no histogram."""
        if self._writer is not None and self._history is not None and len(values) > 0:
            array = np.asarray(values, dtype=np.float64)
            self._writer.add_histogram(name, array, step, bins=_BINS)
            self._history.add(Point(step=step, drawn={name: tuple(values)}))

    def settings(self, options: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """What TensorBoard's page of hyperparameters shows of this run: its options and last metrics.

        options: plain data, nested or not. metrics: by the names of curves; those that were never added get
        one point, at the last step.
        """
        if self._writer is None or self._history is None:
            return
        from torch.utils.tensorboard.summary import hparams

        shown = {name: _told(option) for name, option in flat(to_plain(options)).items()}
        # not add_hparams, which would make a run of its own for them
        for summary in hparams(shown, dict(metrics)):  # type: ignore[no-untyped-call]
            self._writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
        self.add(
            self._history.last_step,
            {name: value for name, value in metrics.items() if name not in self._history.names},
        )

    def flush(self) -> None:
        """Put on disk what was added; called before each checkpoint, so that a resumed curve has no gap."""
        if self._writer is not None and self._history is not None:
            self._writer.flush()
            self._history.flush()

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None and self._history is not None:
            self._writer.close()
            self._history.close()


def read_history(folder: Path) -> list[Point]:
    """The points in a folder of curves in the order of their steps, also while a training adds to them.

    Raises:
        RunError: the history is damaged.
    """
    return read_jsonl(folder / HISTORY, Point)


class _History:
    """A file of points to which one process adds: each is in the file at once, on disk after `flush`."""

    def __init__(self, path: Path, purge_step: int) -> None:
        kept = [point for point in _readable(path) if point.step < purge_step]
        write_text(path, "".join(map(_line, kept)))
        self.path = path
        self.last_step = max((point.step for point in kept), default=0)
        self.names = {name for point in kept for name in point.values}
        try:
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            cannot_write(path, error.strerror or str(error), error)

    def add(self, point: Point) -> None:
        if not point.values and not point.drawn:
            return
        self.last_step = max(self.last_step, point.step)
        self.names |= set(point.values)
        try:
            self._file.write(_line(point))
            self._file.flush()
        except OSError as error:
            cannot_write(self.path, error.strerror or str(error), error)

    def flush(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            cannot_write(self.path, error.strerror or str(error), error)

    def close(self) -> None:
        self._file.close()


def _line(point: Point) -> str:
    return json.dumps(to_plain(point), separators=(",", ":")) + "\n"


def _readable(path: Path) -> list[Point]:
    """The points of a history without its damaged lines: what a power cut tore is after the last checkpoint."""
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    points = []
    for line in lines:
        try:
            points.append(from_plain(Point, json.loads(line)))
        except (ValueError, RecursionError, ConfigError):
            continue
    return points


def _told(option: Any) -> bool | float | str:
    """An option as TensorBoard shows it: what is no number or text becomes JSON."""
    return option if isinstance(option, (bool, int, float, str)) else json.dumps(option)
