"""One file of a training's state, `[best-]<stage>-<step>-<digest>.pt`: written whole, recognised when damaged.

The file is one of torch.save, with state dicts and plain data only. The digest in its name is the SHA-256 of its
bytes (16 hex characters), so that a file which was cut short or altered is found out before it is read.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch

from bnas.errors import RunError
from bnas.files import cannot_write, write_with

_NAME = re.compile(r"(best-)?(\d+)-(\d+)-([0-9a-f]{16})\.pt")
_UNNAMED = "unnamed.pt"  # what a file is called until its digest is known


@dataclass(frozen=True, kw_only=True, order=True)
class Position:
    """`step` steps of stage number `stage` are done (both from 0); what precedes that stage is, too."""

    stage: int = 0
    step: int = 0


def state_files(folder: Path | None, *, best: bool) -> list[Path]:
    """The files of states in a folder, either those called best or the others, oldest first.

    Of two with one position, which only a kill leaves, the one that was written later is the newer.
    """
    if folder is None or not folder.is_dir():
        return []
    matches = ((path, _NAME.fullmatch(path.name)) for path in folder.iterdir())
    return sorted((path for path, match in matches if match and bool(match[1]) == best), key=_age)


def position_of(path: Path) -> Position:
    """Where the training stood, as the name of the file says."""
    _, stage, step, _ = _parts(path)
    return Position(stage=int(stage), step=int(step))


def write_state(folder: Path, position: Position, state: Mapping[str, Any]) -> Path:
    """Save a state under the name that its bytes give it, without a copy of it in memory.

    Raises:
        RunError: the file cannot be written; nothing is left of it.
    """
    digest = ""

    def fill(path: Path) -> None:
        nonlocal digest
        with open(path, "wb") as file:
            hashed = _Hashed(file)
            try:
                torch.save(state, hashed)  # type: ignore[arg-type]
            except RuntimeError as error:  # torch says only that the file has another length than it thought
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
        digest = hashed.hash.hexdigest()[:16]

    unnamed = folder / _UNNAMED
    write_with(unnamed, fill)
    path = folder / f"{position.stage:02}-{position.step:08}-{digest}.pt"
    try:
        os.replace(unnamed, path)
    except OSError as error:
        cannot_write(path, error.strerror or str(error), error)
    return path


def read_state(path: Path) -> dict[str, Any] | None:
    """What a file holds, tensors on the CPU; None where it is damaged, or another process removed it.

    Raises:
        RunError: it cannot be read.
    """
    try:
        return dict(torch.load(path, weights_only=True, map_location="cpu")) if is_intact(path) else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:  # intact and yet unreadable: another version of torch wrote it
        reason = str(error).strip().partition("\n")[0]
        raise RunError(f"cannot read {path}: {reason}; delete it to go on from the one before it") from error


def is_intact(path: Path) -> bool:
    """Whether a file is what was once written under its name."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()[:16] == _parts(path)[3]


def call_best(path: Path) -> Path:
    """Give a file its second name, with `best-` before it: a link, or a copy where there are no links."""
    best = path.with_name(f"best-{path.name}")
    if best.exists() and best.samefile(path):
        return best
    try:
        best.unlink(missing_ok=True)
        os.link(path, best)
    except OSError:
        write_with(best, partial(_copy, path))
    return best


def _copy(source: Path, aside: Path) -> None:
    shutil.copyfile(source, aside)


def remove(files: Iterable[Path]) -> None:
    """Delete files, as far as that is possible."""
    for path in files:
        with suppress(OSError):
            path.unlink()


class _Hashed:
    """A file that knows the digest of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _age(path: Path) -> tuple[Position, int]:
    with suppress(OSError):
        return position_of(path), path.stat().st_mtime_ns
    return position_of(path), 0


def _parts(path: Path) -> tuple[str, ...]:
    match = _NAME.fullmatch(path.name)
    assert match
    return match.groups()
