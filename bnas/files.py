"""Files that a kill, a full disk or a power cut leaves whole: written aside, flushed, then renamed.

A reader sees the old file or the new one, never half of one; a JSONL file may end in half a line, which
readers drop and the next append cuts off.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

from bnas.errors import BnasError, ConfigError, RunError
from bnas.plain import from_plain, to_plain

T = TypeVar("T")


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all; makes the folder. Raises RunError when it cannot."""
    write_with(path, lambda aside: _fill(aside, data))


def write_text(path: Path | str, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path | str, x: Any) -> None:
    """`write_bytes` of `to_plain(x)` as indented JSON."""
    write_text(path, json.dumps(to_plain(x), indent=1) + "\n")


def write_with(path: Path | str, writer: Callable[[Path], None]) -> None:
    """Let `writer` make a file under a temporary name beside `path` (same suffix), then rename it to `path`.

    A Ctrl-C waits until the file is whole.

    Raises:
        RunError: the file cannot be written: full disk, read-only folder.
    """
    path = Path(path)
    aside = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        with _uninterrupted():
            writer(aside)
            os.chmod(aside, 0o666 & ~_umask())  # some writers make their files private
            _flush(aside)
            os.replace(aside, path)
    except BaseException as error:
        reason = _reason(error, path.parent)
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        if reason is None:
            raise
        cannot_write(path, reason, error)
    with suppress(OSError):  # some file systems have no fsync of a folder; the file itself is safe by now
        _flush(path.parent)


def read_json(
    path: Path | str, cls: type[T], *, mend: str = "delete it and run the command that made it again"
) -> T:
    """The `cls` that a JSON file holds; `mend` is what to do about a damaged one.

    Raises:
        RunError: the file is missing, unreadable or damaged.
    """
    path = Path(path)
    try:
        return from_plain(cls, json.loads(_read(path)))
    except (ValueError, RecursionError, ConfigError) as error:
        raise RunError(f"{path} is damaged: {error}; {mend}") from error


def append_jsonl(path: Path | str, x: Any) -> None:
    """Add one line to a JSONL file, on disk when this returns; half a line left by a kill is cut off first.

    Raises:
        RunError: the line cannot be written.
    """
    path = Path(path)
    line = json.dumps(to_plain(x), separators=(",", ":")).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _uninterrupted(), open(path, "ab+") as file:
            _cut_torn_end(file.fileno())
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        cannot_write(path, _strerror(error), error)


def read_jsonl(path: Path | str, cls: type[T]) -> list[T]:
    """The records of a JSONL file in order, none when it does not exist; half a line at its end is dropped.

    Raises:
        RunError: a line before the last is no JSON, or a line is no `cls`; the text has its number.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = _read(path).split(b"\n")[:-1]  # what follows the last newline is torn, or nothing
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            _damaged_line(path, number, error)
        try:
            records.append(from_plain(cls, data))
        except ConfigError as error:
            _damaged_line(path, number, error)
    return records


def cannot_write(path: Path | str, reason: str, error: BaseException) -> NoReturn:
    """Raise the RunError that says why `path` could not be written."""
    mend = "; free some space, then run the same command again" if reason == os.strerror(errno.ENOSPC) else ""
    raise RunError(f"cannot write {path}: {reason}{mend}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise RunError(f"{path} does not exist") from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {_strerror(error)}") from error


def _fill(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let a Ctrl-C that comes now act when this ends."""
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if came:
        usual(*came[0])


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(path: Path) -> None:
    """Delete the temporary files for `path` of processes that were killed while writing it."""
    pattern = re.compile(rf"\.{re.escape(path.stem)}\.(\d+)\.partial{re.escape(path.suffix)}")
    for name in os.listdir(path.parent):
        match = pattern.fullmatch(name)
        if match and int(match[1]) != os.getpid() and not _alive(int(match[1])):
            with suppress(OSError):
                (path.parent / name).unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _cut_torn_end(descriptor: int) -> None:
    """Cut off a last line that has no newline or is no JSON (a power cut may leave zeros)."""
    size = os.fstat(descriptor).st_size
    start, tail = size, b""
    while start > 0 and b"\n" not in tail[:-1]:
        start = max(0, start - 65536)
        tail = os.pread(descriptor, size - start, start)
    if not tail:
        return
    kept, whole, _ = tail.rpartition(b"\n")
    last = kept.rpartition(b"\n")[2]
    keep = start + len(kept) + len(whole)
    if whole and not _is_json(last):
        keep -= len(last) + 1
    if keep != size:
        os.ftruncate(descriptor, keep)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _damaged_line(path: Path, number: int, error: Exception) -> NoReturn:
    raise RunError(
        f"{path} is damaged in line {number}: {error}; delete that line, or the file, and run the command"
        " that made it again"
    ) from error


def _reason(error: BaseException, folder: Path) -> str | None:
    """What the operating system said, also when a library hid it in an exception of its own; else None."""
    if isinstance(error, OSError):
        return _strerror(error)
    if not isinstance(error, Exception) or isinstance(error, BnasError):
        return None
    hidden = re.search(r"\(os error (\d+)\)", str(error))  # safetensors
    if hidden:
        return os.strerror(int(hidden[1]))
    with suppress(OSError):
        if shutil.disk_usage(folder).free < 1 << 16:  # torch.save says only "file write failed"
            return os.strerror(errno.ENOSPC)
    return None


def _strerror(error: OSError) -> str:
    return error.strerror or str(error)
