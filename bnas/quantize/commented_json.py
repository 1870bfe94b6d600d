"""JSON as NNCF 2 read it: with `//` and `/* */` comments and commas after the last element."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn

from bnas.errors import ConfigError

_TEXT = r'"(?:\\.|[^"\\\n])*"'
_COMMENT = re.compile(rf"{_TEXT}|//[^\n]*|/\*.*?\*/", re.S)
_LAST_COMMA = re.compile(rf"{_TEXT}|,(?=\s*[}}\]])", re.S)


def read_commented_json(path: Path | str) -> Any:
    """What a JSON file with comments holds.

    Raises:
        ConfigError: the file is missing, or no JSON; the text has the line and the column.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text in UTF-8") from error
    plain = _LAST_COMMA.sub(_blank, _COMMENT.sub(_blank, text))
    try:
        return json.loads(plain, object_pairs_hook=_once_each, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}: no JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deep") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _blank(found: re.Match[str]) -> str:
    """Spaces in place of what was found, so that lines and columns stay; texts stay."""
    return found[0] if found[0].startswith('"') else re.sub(r"[^\n]", " ", found[0])


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(name for name in names if names.count(name) > 1)}' is there twice")
    return made


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")
