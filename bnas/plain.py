"""Frozen dataclasses to plain data (what JSON and YAML hold) and back, exactly.

The law is `from_plain(T, to_plain(x)) == x`; what is refused is named by its path. A class that stores its
values in another shape than its fields say defines both hooks: a method `to_plain(self)` and a
classmethod `from_plain(cls, data, where)`.
"""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from bnas.errors import ConfigError, did_you_mean

T = TypeVar("T")

_NAMES = {type(None): "null", Path: "path", Any: "anything"}


def to_plain(x: Any) -> Any:
    """`x` as None, bool, int, float, str, list and dict with string keys only.

    Dataclasses become dicts of their fields, tuples become lists, sets become sorted lists, NumPy scalars
    become Python's. A field with metadata `{"plain": "unless default"}` is left out at its default.

    Raises:
        TypeError: `x` holds something else, as a tensor or a function.
    """
    if x is None or isinstance(x, (bool, str)):
        return x
    if isinstance(x, int):
        return int(x)
    if isinstance(x, float):
        return float(x)
    if hasattr(type(x), "to_plain"):
        return x.to_plain()
    if is_dataclass(x) and not isinstance(x, type):
        return {field.name: to_plain(getattr(x, field.name)) for field in fields(x) if _is_written(field, x)}
    if isinstance(x, Mapping):
        return {_key(key): to_plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [to_plain(item) for item in x]
    if isinstance(x, AbstractSet):
        return sorted((to_plain(item) for item in x), key=json.dumps)
    if isinstance(x, Path):
        return str(x)
    if getattr(x, "shape", None) == () and type(x).__module__ == "numpy":
        return x.item()
    raise TypeError(f"{type(x).__name__} has no plain form")


def from_plain(cls: type[T], data: Any, where: str = "") -> T:
    """A `cls` (a dataclass, or any type a dataclass field may have) made from plain `data`.

    Lists become tuples where the field says so; an int is accepted for a float, a bool never for an int. A
    base dataclass whose subclasses have a field `kind: Literal["x"] = "x"` is made as the subclass of that
    kind; where the data has no kind, the kind is that of the field's default. `where` is the path so far.
    What `__post_init__` refuses (ValueError or ConfigError, `"lr: must be above 0, got -1"`) gets its path.

    Raises:
        ConfigError: unknown key, missing key, wrong type or refused value; the text starts with its path.
    """
    return cast(T, _read(cls, data, where))


def flat(data: Any, path: str = "") -> dict[str, Any]:
    """Nested plain mappings as one, by dotted path: {"train": {"lr": 0.1}} is {"train.lr": 0.1}."""
    if not isinstance(data, Mapping):
        return {path: data}
    return {
        name: value
        for key, inner in data.items()
        for name, value in flat(inner, f"{path}.{key}" if path else str(key)).items()
    }


def digest(x: Any) -> str:
    """16 hex characters of the SHA-256 of `x` as canonical JSON."""
    text = json.dumps(to_plain(x), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_written(field: Field[Any], x: Any) -> bool:
    optional = field.metadata.get("plain") == "unless default"
    return field.init and not (optional and getattr(x, field.name) == _default(field))


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, int) and not isinstance(key, bool):
        return str(int(key))
    raise TypeError(f"a plain mapping has string or int keys, got {key!r}")


def _read(hint: Any, data: Any, where: str, default: Any = None) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any or hint is object:
        return data
    if origin is Union or origin is types.UnionType:
        return _read_union(args, data, where, default)
    if origin is Literal:
        for value in args:
            if value == data and type(value) is type(data):
                return data
        raise _refusal(where, " or ".join(repr(value) for value in args), data)
    if hasattr(hint, "from_plain"):
        return hint.from_plain(data, where)
    if is_dataclass(hint):
        return _read_dataclass(cast(type, hint), data, where, default)
    base = origin or hint
    if base is tuple:
        return _read_tuple(args, data, where)
    if base is list:
        return list(_read_items(args[0] if args else Any, data, where))
    if base is Sequence:
        return tuple(_read_items(args[0] if args else Any, data, where))
    if base in (set, frozenset, AbstractSet):
        return (set if base is set else frozenset)(_read_items(args[0] if args else Any, data, where))
    if base in (dict, Mapping):
        return _read_mapping(args or (str, Any), data, where)
    return _read_scalar(hint, data, where)


def _read_scalar(hint: Any, data: Any, where: str) -> Any:
    if hint is None or hint is type(None):
        if data is not None:
            raise _refusal(where, "null", data)
        return None
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if hint is Path:
        if not isinstance(data, (str, Path)):
            raise _refusal(where, "path", data)
        return Path(data)
    if hint in (bool, int, float, str):
        if type(data) is not hint:
            raise _refusal(where, hint.__name__, data)
        return data
    raise TypeError(f"{where or 'from_plain'}: no way to read a {hint!r}")


def _read_union(members: tuple[Any, ...], data: Any, where: str, default: Any) -> Any:
    if data is None and type(None) in members:
        return None
    if type(data) in members:  # an exact match before a conversion: 3 stays an int in float | int
        return data
    failures = {}
    for member in members:
        try:
            return _read(member, data, where, default)
        except ConfigError as error:
            failures[member] = error
    inside = [error for member, error in failures.items() if _same_shape(member, data)]
    if len(inside) == 1:  # what is wrong inside the only member that fits says more than the names of all
        raise inside[0]
    raise _refusal(where, " or ".join(_name(member) for member in members), data)


def _same_shape(hint: Any, data: Any) -> bool:
    base = get_origin(hint) or hint
    if isinstance(data, Mapping):
        return is_dataclass(base) or base in (dict, Mapping)
    return isinstance(data, (list, tuple)) and base in (tuple, list, Sequence, set, frozenset, AbstractSet)


def _read_items(hint: Any, data: Any, where: str) -> list[Any]:
    if not isinstance(data, (list, tuple)):
        raise _refusal(where, "a list", data)
    return [_read(hint, item, f"{where}[{index}]") for index, item in enumerate(data)]


def _read_tuple(hints: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    if not hints or hints[1:] == (...,):
        return tuple(_read_items(hints[0] if hints else Any, data, where))
    if not isinstance(data, (list, tuple)) or len(data) != len(hints):
        raise _refusal(where, f"a list of {len(hints)}", data)
    return tuple(
        _read(hint, item, f"{where}[{index}]")
        for index, (hint, item) in enumerate(zip(hints, data, strict=True))
    )


def _read_mapping(hints: tuple[Any, ...], data: Any, where: str) -> dict[Any, Any]:
    if not isinstance(data, Mapping):
        raise _refusal(where, "a mapping", data)
    made = {}
    for key, value in data.items():
        path = _join(where, key)
        if hints[0] is int and isinstance(key, str):
            made[_int_key(key, path)] = _read(hints[1], value, path)
        else:
            made[_read(hints[0], key, path)] = _read(hints[1], value, path)
    return made


def _int_key(key: str, path: str) -> int:
    try:
        return int(key)
    except ValueError as error:
        raise _refusal(path, "a whole number as the key", key) from error


def _read_dataclass(cls: type, data: Any, where: str, default: Any) -> Any:
    if not isinstance(data, Mapping):
        raise _refusal(where or cls.__name__, "a mapping of options", data)
    cls = _variant(cls, data, where, default)
    known, hints = _options(cls), _hints(cls)
    for key in data:
        if key not in known:
            raise ConfigError(f"{_join(where, key)}: no such option{did_you_mean(str(key), known)}")
    values = {}
    for name, field in known.items():
        if name in data:
            values[name] = _read(hints[name], data[name], _join(where, name), _default(field))
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{_join(where, name)}: missing; expected {_name(hints[name])}")
    try:
        return cls(**values)
    except (ValueError, ConfigError) as error:
        text = str(error)
        about_a_field = any(text.startswith((f"{name}:", f"{name}[", f"{name}.")) for name in known)
        raise ConfigError(_join(where, text) if about_a_field or not where else f"{where}: {text}") from error


def _variant(cls: type, data: Mapping[str, Any], where: str, default: Any) -> type:
    """The class to make: `cls`, or the subclass of it that the data's `kind` names."""
    variants = {kind: variant for variant in (cls, *_descendants(cls)) for kind in _kinds(variant)}
    if not variants or set(variants.values()) == {cls}:
        return cls
    if "kind" in data:
        kind = data["kind"]
        if not isinstance(kind, str) or kind not in variants:
            raise ConfigError(
                f"{_join(where, 'kind')}: no such kind {kind!r}{did_you_mean(str(kind), variants)}"
            )
        return variants[kind]
    if isinstance(default, cls):
        return type(default)
    if cls in variants.values():
        return cls
    raise ConfigError(f"{_join(where, 'kind')}: missing; allowed: {', '.join(sorted(variants))}")


def _descendants(cls: type) -> list[type]:
    direct: list[type] = cls.__subclasses__()
    return [*direct, *(below for child in direct for below in _descendants(child))]


def _kinds(cls: type) -> tuple[str, ...]:
    hint = _hints(cls).get("kind") if is_dataclass(cls) else None
    return get_args(hint) if get_origin(hint) is Literal else ()


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


@cache
def _options(cls: type) -> dict[str, Field[Any]]:
    return {field.name: field for field in fields(cast(Any, cls)) if field.init}


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _name(hint: Any) -> str:
    if hint in _NAMES:
        return _NAMES[hint]
    if get_origin(hint) is Literal:
        return " or ".join(repr(value) for value in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_name(member) for member in get_args(hint))
    return "a mapping of options" if is_dataclass(hint) else getattr(hint, "__name__", str(hint))


def _refusal(where: str, expected: str, got: Any) -> ConfigError:
    shown = "null" if got is None else repr(got)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return ConfigError(f"{where or 'value'}: expected {expected}, got {shown}")
