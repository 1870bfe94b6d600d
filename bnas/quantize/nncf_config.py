"""A configuration as NNCF 2 took it (`NNCFConfig`, a JSON file or a dict), read for the NNCF of today.

NNCF 2 quantized torch modules by `create_compressed_model(model, nncf_config)`, which NNCF 3 has not any more. Every
key of its schema has a rule (`nncf_config_keys`): it becomes options of `NncfOptions`, or changes nothing, which a note
explains, or is refused with what to use instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from bnas.errors import ConfigError
from bnas.plain import from_plain
from bnas.quantize.commented_json import read_commented_json
from bnas.quantize.nncf_config_keys import read_root
from bnas.quantize.nncf_config_rules import Reading

C = TypeVar("C")

# Options, what they are where a configuration does not say it (None: as bnas has them), and the note then.
_LEFT_OUT: tuple[tuple[str, Any, str], ...] = (
    ("preset", "performance", "compression.preset is not given: 'performance', as in NNCF 2"),
    ("samples", 256, "compression.initializer.range.num_init_samples is not given: 256 images, as in NNCF 2"),
    (
        "overflow_fix",
        None,
        "compression.overflow_fix is not given: only where this CPU needs it (NNCF 2: in all layers on any CPU)",
    ),
    (
        "bn_adaptation_samples",
        None,
        "compression.initializer.batchnorm_adaptation is not given: batch norms keep their statistics, and biases are "
        "corrected instead (NNCF 2: adapted on 2000 images)",
    ),
)


@dataclass(frozen=True, kw_only=True)
class NncfConfigRead:
    """What a configuration of NNCF 2 says.

    `options`: those of `NncfOptions` that it sets, as plain data. `notes`: of each key that changes nothing here, and
    of each that is not given and meant something, why. `sample_size`: the shape of the network's input.
    """

    options: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    sample_size: tuple[int, ...] | None = None


def read_nncf_config(source: Path | str | Mapping[str, Any]) -> NncfConfigRead:
    """A configuration of NNCF 2 as options; `source` is a JSON file, or what it holds.

    What it leaves out is what NNCF 2 took (`preset` "performance", 256 images), but for two things: `overflow_fix`,
    which is left to the CPU, and the adaptation of batch norms. A mapping of one algorithm, without the sections around
    it, is read as well.

    Raises:
        ConfigError: no such file, no JSON, an unknown key, or one that has no counterpart; the text says what to use.
    """
    if isinstance(source, Mapping):
        return _read(source, "nncf_config.")
    try:
        data = read_commented_json(source)
    except ConfigError as error:
        raise ConfigError(f"nncf_config: {error}") from error
    return _read(data, f"nncf_config: {source}: ")


def filled_in(config: C, read: NncfConfigRead) -> C:
    """`config`, a dataclass of options, with what was read in place of what is at its default.

    Raises:
        ConfigError: `config` has no such option, or not such values.
    """
    known = {option.name for option in fields(config)}  # type: ignore[arg-type]
    for name, value in read.options.items():
        if name not in known and value:
            raise ConfigError(f"nncf_config: it sets {name}, which {type(config).__name__} does not have")
    own = {name: value for name, value in read.options.items() if name in known}
    return _merged(config, from_plain(type(config), own, "nncf_config"))


def _merged(config: C, other: C) -> C:
    changes = {}
    for option in fields(config):  # type: ignore[arg-type]
        mine, theirs = getattr(config, option.name), getattr(other, option.name)
        default = option.default if option.default_factory is MISSING else option.default_factory()
        if is_dataclass(default) and type(mine) is type(theirs):
            changes[option.name] = _merged(mine, theirs)
        elif mine == default:
            changes[option.name] = theirs
    return replace(config, **changes)  # type: ignore[type-var]


def _read(data: Any, source: str) -> NncfConfigRead:
    reading = Reading()
    try:
        read_root(reading, data)
    except ConfigError as error:
        raise ConfigError(f"{source}{error}") from error
    options, notes = reading.options, reading.notes
    for path, value, why in _LEFT_OUT:
        if path not in options:
            notes.append(why)
            if value is not None:
                options[path] = value
    if options.get("weights.mode") == "asymmetric" and options.pop("weights.signed", None):
        notes.append("compression.weights.signed: asymmetric weights have a zero point, which says it")
    nested: dict[str, Any] = {}
    for path, value in options.items():
        group, _, name = path.rpartition(".")
        (nested.setdefault(group, {}) if group else nested)[name] = value
    return NncfConfigRead(options=nested, notes=tuple(notes), sample_size=reading.sample_size)
