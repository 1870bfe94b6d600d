"""What is in a .pt2 file, before torch loads it: torch's own loader can be made to run anything.

`torch.export.load` unpickles whatever the file says is pickled, loads native libraries, looks up the operations of the
graph by name in the whole package `torch` (`torch.os.system` is one), and evaluates sizes as Python expressions. So a
file that is not trusted may hold plain tensors, operations on tensors, and sizes that are sums and products; the checks
of its input that it brings along, which are Python too, are left out.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bnas.errors import ExportError

_TARGET = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed|torchvision|torchao)\.\w+(\.\w+)?"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|neg|pow|getitem|eq|ne|lt|le|gt|ge|and_|or_|not_|pos|abs)"
    r"|torch\.sym_\w+|math\.(ceil|floor|trunc|sqrt)"
)
_FILE_OPERATIONS = ("from_file", "save", "load")
_WORD = re.compile(r"[A-Za-z_]\w*")
_SIZE_WORD = re.compile(
    r"z?[suf]{1,2}\d+|[su]nbacked\w*|Integer|Float|Symbol|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|ModularIndexing|"
    r"IntTrueDiv|FloatTrueDiv|ToFloat|TruncToInt|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|oo|int_oo|True|False|positive|integer"
)
_NATIVE = ("aotinductor/", "executorch/")
_OBJECTS = ("custom_obj_", "opaque_obj_")


def checked(path: Path, *, trusted: bool = False) -> tuple[io.BytesIO, frozenset[str]]:
    """The file's content, for `torch.export.load`: whole, of this torch's version and, unless `trusted`, harmless.

    Besides, the libraries of operations that its graph calls, as `aten`.

    Raises:
        ExportError: it is not; the text says which.
    """
    data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if (bad := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{bad} is damaged")
            names = archive.namelist()
            if len({name.lower() for name in names}) < len(
                names
            ):  # torch may read another one than is checked here
                raise zipfile.BadZipFile("two of its files have the same name")
            graphs = [json.loads(archive.read(name)) for name in names if _is_graph(name)]
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ExportError(
            f"{path} cannot be read: it is cut off, damaged, or no .pt2 file: {error}"
        ) from error
    if not graphs:
        raise ExportError(f"{path} cannot be read: it is cut off, or holds no network of torch.export")
    for graph in graphs:
        _check_version(path, graph)
    if not trusted and (unsafe := _unsafe(names, graphs)) is not None:
        raise ExportError(
            f"{path} is not loaded: {unsafe}, and torch would run code of the file's; where you know who made it, "
            "load it with trusted=True"
        )
    targets = [value for graph in graphs for key, value in _texts(graph) if key == "target"]
    return io.BytesIO(data), frozenset(t.split(".")[2] for t in targets if t.startswith("torch.ops."))


@contextmanager
def weights_only(wanted: bool) -> Iterator[None]:
    """In here `torch.load` takes tensors alone, also where torch calls it otherwise."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    if wanted:
        os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def _is_graph(name: str) -> bool:
    """Of this version of torch (…/models/model.json), or of 2.6 to 2.7."""
    return name.endswith("serialized_exported_program.json") or bool(re.search(r"(^|/)models/", name))


def _check_version(path: Path, graph: Any) -> None:
    from torch._export.serde.schema import SCHEMA_VERSION

    graph = graph if isinstance(graph, dict) else {}
    version = graph.get("schema_version") or {}
    major, minor = version.get("major"), version.get("minor")
    if major != SCHEMA_VERSION[0]:
        raise ExportError(
            f"{path} was written by torch {graph.get('torch_version', '?')} (schema {major}.{minor}), this is torch "
            f"{torch.__version__} (schema {SCHEMA_VERSION[0]}.{SCHEMA_VERSION[1]}); load it there, or export it again"
        )


def _unsafe(names: list[str], graphs: list[Any]) -> str | None:
    """What in the archive could run code; None: nothing that is known."""
    for name in names:
        if any(part in name.lower() for part in _NATIVE) or name.endswith((".so", ".dll", ".dylib")):
            return f"it holds a native library ({name})"
        if any(part in name.lower() for part in _OBJECTS):
            return f"it holds a pickled object ({name})"
    for key, value in (pair for graph in graphs for pair in _texts(graph)):
        if key == "target" and not _is_plain_operation(value):
            return f"its graph calls '{value}'"
        if key == "expr_str" and not _is_plain_size(value):
            return f"its sizes say '{value}'"
    return None


def _is_plain_operation(target: str) -> bool:
    return bool(_TARGET.fullmatch(target)) and not any(f".{word}" in target for word in _FILE_OPERATIONS)


def _is_plain_size(expression: str) -> bool:
    words = _WORD.findall(expression)
    plain = re.fullmatch(r"[\w\s+\-*/%().,<>=!&|~']*", expression) and not re.search(
        r"\.\s*[A-Za-z_]", expression
    )
    return bool(plain) and all(_SIZE_WORD.fullmatch(word) for word in words)


def _texts(x: Any) -> Iterator[tuple[str, str]]:
    """Every text of a JSON with its key."""
    if isinstance(x, dict):
        for key, value in x.items():
            if isinstance(value, str):
                yield key, value
            else:
                yield from _texts(value)
    elif isinstance(x, list):
        for item in x:
            yield from _texts(item)
