"""Where a training stands, on disk: the last states and the best one.

`best-….pt` is the state with the best metric, another name of the same file. Metrics of two stages are of other
subnets and not compared: a later stage's first one replaces an earlier stage's best.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bnas import progress
from bnas.errors import ModelError, RunError
from bnas.plain import from_plain, to_plain
from bnas.train.state_file import (
    Position,
    call_best,
    is_intact,
    position_of,
    read_state,
    remove,
    state_files,
    write_state,
)

__all__ = ["Best", "Checkpoints", "Position", "read_checkpoint"]

_OWN = ("settings", "position", "best")  # what a file holds besides the state that was given


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best metric so far, and where the training stood then."""

    metric: float
    position: Position


class Checkpoints:
    """The checkpoints of one training in a folder (None: nowhere; nothing is saved).

    settings: plain data on which the weights depend; a checkpoint made with other settings is refused.
    keep: how many of the last are kept, besides the best.
    writes: False in all processes but one of those that train together; these only read.
    """

    def __init__(
        self, folder: Path | None, settings: Mapping[str, Any], *, keep: int = 2, writes: bool = True
    ) -> None:
        self.folder = folder
        self.settings = to_plain(settings)
        self.keep = keep
        self.writes = writes
        self.best_so_far: Best | None = None
        self._position: Position | None = None

    def load(self) -> tuple[Position, dict[str, Any] | None]:
        """Where the newest intact checkpoint was made, and the state that was saved there, on the CPU.

        A damaged file is reported, removed, and the one before it used. With none left: the start, and None.

        Raises:
            RunError: the checkpoints are of a training with other settings, or cannot be read.
        """
        for path in reversed(state_files(self.folder, best=False)):
            found = read_state(path)
            if found is not None:
                self._compare(found["settings"])
                self._position = Position(**found["position"])
                best = found.get("best")
                self.best_so_far = None if best is None else from_plain(Best, best)
                self._find_best(path)
                return self._position, _given(found)
            if path.exists():
                progress.say(f"warning: {path} is damaged; going on from the checkpoint before it")
                remove([path] if self.writes else [])
        return Position(), None

    def save(
        self,
        position: Position,
        state: Mapping[str, Any],
        *,
        metric: float | None = None,
        higher_is_better: bool = True,
    ) -> None:
        """Write a checkpoint and remove all but the last `keep` and the best.

        state: state dicts, plain data and None by name, among them "model", a state dict.
        metric: of this state; without one the state is no candidate for the best, and a position that was
            the last to be saved is not saved again.

        Raises:
            ModelError: a tensor of the model is not finite; nothing is written.
            RunError: the file cannot be written.
        """
        if self.folder is None or (position == self._position and metric is None):
            return
        for name, tensor in state["model"].items():
            if torch.is_floating_point(tensor) and not bool(torch.isfinite(tensor).all()):
                where = f"stage {position.stage}, after step {position.step}"
                raise ModelError(f"{where}: {name} is not finite; {self.advice()}")
        if metric is not None and self._is_best(metric, position, higher_is_better):
            self.best_so_far = Best(metric=float(metric), position=position)
        self._position = position
        if not self.writes:
            return
        own = {"settings": self.settings, "position": position, "best": self.best_so_far}
        path = write_state(self.folder, position, {**state, **to_plain(own)})
        self._find_best(path)
        last = state_files(self.folder, best=False)
        same = [old for old in last if position_of(old) == position and old != path]
        remove(same + [old for old in last if old not in (*same, path)][: 1 - self.keep or None])

    def best(self) -> Path | None:
        """The checkpoint with the best metric so far; None where no metric was given, or it is damaged."""
        path = self._best_path()
        return path if path is not None and is_intact(path) else None

    def advice(self) -> str:
        """What to do about a training that diverged."""
        last = state_files(self.folder, best=False)
        return f"last good checkpoint: {last[-1] if last else 'none'}; lower the learning rate (lr) or set clip_norm"

    def _is_best(self, metric: float, position: Position, higher_is_better: bool) -> bool:
        if metric != metric:  # not a number
            return False
        old = self.best_so_far
        if old is None or old.position.stage != position.stage:
            return True
        return metric > old.metric if higher_is_better else metric < old.metric

    def _best_path(self) -> Path | None:
        if self.best_so_far is None:
            return None
        files = state_files(self.folder, best=True)
        return next((path for path in files if position_of(path) == self.best_so_far.position), None)

    def _find_best(self, path: Path) -> None:
        """Leave one best file, which is `path` or the earlier one it tells of; forget it where that is lost.

        The name `best-…` follows the file, so that a kill between the two leaves a state from which it is made up.
        """
        best = self._best_path()
        if self.best_so_far is not None and self.best_so_far.position == position_of(path):
            best = call_best(path) if self.writes else best
        elif best is None:
            self.best_so_far = None
        if self.writes:
            remove(old for old in state_files(self.folder, best=True) if old != best)

    def _compare(self, stored: Mapping[str, Any]) -> None:
        difference = next(_differences(stored, self.settings), None)
        if difference:
            raise RunError(
                f"{self.folder} holds checkpoints of another training: {difference}; "
                "change it back to go on, or delete that folder to start afresh"
            )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state that was saved in a checkpoint, on the CPU.

    Raises:
        RunError: it is damaged or cannot be read.
    """
    found = read_state(path)
    if found is None:
        raise RunError(f"{path} is damaged, or gone")
    return _given(found)


def _given(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in _OWN}


def _differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Where two pieces of plain data differ, and how."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differences(a, b, f"{where}[{index}]")
    elif old != new:
        yield f"{where} was {_short(old)}, is {_short(new)}"


def _short(x: Any) -> str:
    text = repr(x)
    return text if len(text) <= 60 else f"{text[:57]}..."
