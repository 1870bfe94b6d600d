"""`bnas show params FILE`: how the files beside it were quantized, on what, and whether they are still these files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bnas.errors import RunError
from bnas.export.artefact import AIMET_FILES

_END = "_params.json"


def show_params(words: Sequence[str]) -> None:
    """Print `<name>_params.json`, or the one that is beside another file of the export.

    Raises:
        RunError: there is no such file, or it is none of these.
    """
    if len(words) != 1:
        raise RunError("show params: which file? as in: python -m bnas show params outputs/…/A_params.json")
    path = _params(Path(words[0]))
    data = _read(path)
    table = Table("parameter", "value", title=Text(str(path)))
    for name, value in _rows(data):
        table.add_row(Text(name), Text(value))
    for end, digest in data["sha256"].items():
        table.add_row(Text(f"file {end}"), Text(f"{str(digest)[:16]}…, {_state(path, end, str(digest))}"))
    Console().print(table)


def _params(path: Path) -> Path:
    if path.name.endswith(_END):
        return path
    ends = sorted(AIMET_FILES, key=len, reverse=True)
    end = next((end for end in ends if path.name.endswith(end)), "")
    return path.with_name(path.name.removesuffix(end) + _END)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}; `bnas export` with export=aimet writes it") from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}; export again") from error
    if not isinstance(data, dict) or not isinstance(data.get("sha256"), dict) or "options" not in data:
        raise RunError(f"{path} holds no parameters of an export for AIMET")
    return data


def _rows(data: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every value with its path, as `options.equalize.scale`."""
    for name, value in data.items():
        if name == "sha256" and not path:
            continue
        full = f"{path}.{name}" if path else str(name)
        if isinstance(value, dict) and value:
            yield from _rows(value, full)
        else:
            yield full, value if isinstance(value, str) else json.dumps(value)


def _state(path: Path, end: str, digest: str) -> str:
    file = path.with_name(path.name.removesuffix(_END) + end)
    try:
        content = file.read_bytes()
    except OSError:
        return "missing"
    return "as written" if hashlib.sha256(content).hexdigest() == digest else "changed since"
