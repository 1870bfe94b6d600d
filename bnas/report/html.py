"""Parts of pages that are no plot: data for a script, notes, nested facts as lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bnas.plain import to_plain


def script_json(x: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element."""
    text = json.dumps(to_plain(x), separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def notes_box(notes: Sequence[str]) -> str:
    """The notes in a box of their own, or nothing where there are none."""
    if not notes:
        return ""
    return f'<div class="notes">{"".join(f"<p>{escape(note)}</p>" for note in notes)}</div>'


def facts_list(title: str, facts: Mapping[str, Any]) -> str:
    """Nested facts under a title, as the HTML of a list; every text is escaped."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in _told(facts))
    return f"<div><h3>{escape(title)}</h3><dl>{rows}</dl></div>"


def many(count: int) -> str:
    """A count, in full or, where that is very long, as a power of ten."""
    return f"{count:,}" if count < 10**9 else f"about 10^{len(str(count)) - 1}"


def _told(facts: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested facts as (name, text) pairs; names in words, nesting as `name, part`."""
    told: list[tuple[str, str]] = []
    for key, value in facts.items():
        name = f"{above}, {key}" if above else str(key)
        if isinstance(value, Mapping):
            told += _told(value, name)
        elif value not in ("", (), []):
            told.append((name.replace("_", " "), _text(value)))
    return told


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return many(value)
    if isinstance(value, (list, tuple)) and len(value) > 6 and all(isinstance(x, float) for x in value):
        return f"{len(value)} numbers, see report.json"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return str(value)
