"""Where a training stands, on disk: the last two states, whole or recognisably damaged.

A checkpoint is one file `<stage>-<step>-<digest>.pt` of torch.save, with state dicts and plain data only.
The digest in its name is the SHA-256 of its bytes (16 hex characters), so that a file which was cut short or
altered is found out before it is read. The file appears under its name when it is complete.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from bnas import progress
from bnas.errors import ModelError, RunError
from bnas.files import write_bytes
from bnas.plain import to_plain

KEEP = 2
_NAME = re.compile(r"(\d+)-(\d+)-([0-9a-f]{16})\.pt")


@dataclass(frozen=True, kw_only=True, order=True)
class Position:
    """`step` steps of stage number `stage` are done (both from 0); what precedes that stage is, too."""

    stage: int = 0
    step: int = 0


class Checkpoints:
    """The checkpoints of one training in a folder (None: nowhere; nothing is saved).

    `settings` is plain data on which the weights depend; a checkpoint made with other settings is refused.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = to_plain(settings)
        self.last: Path | None = None
        self._position: Position | None = None

    def load(self, model: nn.Module) -> tuple[Position, dict[str, Any] | None]:
        """Put the newest intact state into `model`; returns its position and optimizer state.

        A damaged file is reported, removed, and the one before it used. With none left: the start, and None.

        Raises:
            RunError: the checkpoints are of a training with other settings.
        """
        for path in sorted(self._files(), reverse=True):
            data = _read(path)
            if _digest(data) != _parts(path)[2]:
                progress.say(f"warning: {path} is damaged; going on from the checkpoint before it")
                with suppress(OSError):
                    path.unlink()
                continue
            state = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
            self._compare(state["settings"])
            model.load_state_dict(state["model"])
            self.last, self._position = path, Position(**state["position"])
            return self._position, state["optimizer"]
        return Position(), None

    def save(self, position: Position, model: nn.Module, optimizer: Optimizer | None = None) -> None:
        """Write a checkpoint and remove all but the last two; does nothing where this position was the last.

        Raises:
            ModelError: a parameter is not finite; nothing is written.
            RunError: the file cannot be written.
        """
        if self.folder is None or position == self._position:
            return
        for name, parameter in model.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                where = f"stage {position.stage}, after step {position.step}"
                raise ModelError(f"{where}: {name} is not finite; {self.advice()}")
        buffer = io.BytesIO()
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict() if optimizer else None,
            "position": to_plain(position),
            "settings": self.settings,
        }
        torch.save(state, buffer)
        data = buffer.getvalue()
        path = self.folder / f"{position.stage:02}-{position.step:08}-{_digest(data)}.pt"
        write_bytes(path, data)
        self.last, self._position = path, position
        for old in sorted(self._files())[:-KEEP]:
            with suppress(OSError):
                old.unlink()

    def advice(self) -> str:
        """What to do about a training that diverged."""
        return f"last good checkpoint: {self.last or 'none'}; lower the learning rate (lr) or set clip_norm"

    def _files(self) -> list[Path]:
        if self.folder is None or not self.folder.is_dir():
            return []
        return [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]

    def _compare(self, stored: Mapping[str, Any]) -> None:
        difference = _difference(stored, self.settings)
        if difference:
            raise RunError(
                f"{self.folder} holds checkpoints of another training: {difference}; "
                "change it back to go on, or delete that folder to start afresh"
            )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _parts(path: Path) -> tuple[int, int, str]:
    match = _NAME.fullmatch(path.name)
    assert match
    return int(match[1]), int(match[2]), match[3]


def _difference(old: Any, new: Any, where: str = "") -> str | None:
    """The first place where two pieces of plain data differ, and how; None if they are equal."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            path = f"{where}.{key}" if where else key
            found = _difference(old.get(key), new.get(key), path)
            if found:
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            found = _difference(a, b, f"{where}[{index}]")
            if found:
                return found
        return None
    return None if old == new else f"{where} was {_short(old)}, is {_short(new)}"


def _short(x: Any) -> str:
    text = repr(x)
    return text if len(text) <= 60 else f"{text[:57]}..."
