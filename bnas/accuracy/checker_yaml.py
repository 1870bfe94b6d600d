"""The accuracy checker's configuration (Open Model Zoo, tools/accuracy_checker) as checks that bnas can do.

What is read is what classifiers need; every other key is noted or refused by name. Nothing is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from bnas.accuracy.checker_dataset import CheckedData, Places, read_dataset
from bnas.accuracy.checker_network import BuiltIn, CheckedNetwork, an_ir_has, read_launcher
from bnas.accuracy.keys import Keys, items_of, text_of
from bnas.accuracy.preprocess import READERS, channel_order
from bnas.accuracy.steps import Pixels
from bnas.errors import ConfigError

_FILE = Keys(
    used=("models", "global_definitions"),
    refused={
        "evaluations": "modules of the accuracy checker's own cannot be run; list networks under models",
    },
)
_MODEL = Keys(used=("name", "launchers", "datasets"))


@dataclass(frozen=True, kw_only=True)
class Check:
    """One network on one data set."""

    name: str
    network: CheckedNetwork
    data: CheckedData
    notes: tuple[str, ...]

    def prepare(self, path: Path) -> Pixels:
        """The image in a file, [H, W, 3], as the network is given it but for what the Model Optimizer would add."""
        image = READERS[self.data.reader][0](path)
        for step in self.data.steps:
            image = step(image)
        size = self.network.size
        if size is not None and image.shape[:2] != size:
            raise ConfigError(
                f"{self.name}: input_shape says {size[1]} x {size[0]} pixels, but {path} is {image.shape[1]} x "
                f"{image.shape[0]} when prepared; correct input_shape, or crop to it"
            )
        return image

    @property
    def channels(self) -> str:
        """RGB or BGR: what the network's file is given; where mo_params are done to the images, after that."""
        reverse = self.network.preprocess is not None and self.network.preprocess.reverse_input_channels
        return channel_order(READERS[self.data.reader][1], self.data.steps, reverse=reverse)

    @property
    def channels_note(self) -> str:
        """What a person has to know to see that the order of the channels is right."""
        if self.network.built_in:
            return (
                f"{self.name}: {self.network.path.name} is given images as {self.channels}; what is built into it "
                "comes after that"
            )
        return f"{self.name}: images come to the network's own layers as {self.channels}"


def read_checks(file: Path, places: Places, *, built_in: BuiltIn = an_ir_has) -> tuple[Check, ...]:
    """All checks of a configuration: each model's launchers, on each of its data sets.

    Raises:
        ConfigError: no YAML, an option that cannot be done here, or a value that it cannot take; says where.
        DataError: a file or folder of the data is missing, or does not fit.
    """
    top, notes = _FILE.check(_read(file), str(file))
    definitions = places.definitions
    if definitions is None and "global_definitions" in top:
        definitions = file.parent / str(text_of(top, "global_definitions", str(file)))
    known = {} if definitions is None else _read(definitions)
    checks: list[Check] = []
    for index, model in enumerate(items_of(top, "models", str(file))):
        checks += _of_model(model, f"models[{index}]", known, places, built_in, notes)
    return tuple(checks)


def _of_model(
    entry: Any,
    where: str,
    known: Mapping[str, Any],
    places: Places,
    built_in: BuiltIn,
    notes: tuple[str, ...],
) -> list[Check]:
    options, more = _MODEL.check(entry, where)
    notes += more
    name = text_of(options, "name", where)
    if name is None:
        raise ConfigError(f"{where}.name: missing")
    launchers = items_of(options, "launchers", where)
    own = options.get("datasets")
    checks = []
    for number, launcher in enumerate(launchers):
        place = f"{where}.launchers[{number}]"
        launcher = _merged(launcher, known.get("launchers"), "framework", place)
        network = read_launcher(launcher, place, name=name, models=places.models, built_in=built_in)
        datasets, here = own, where
        inner = launcher.get("datasets")
        if inner is not None and own is not None:
            raise ConfigError(f"{place}.datasets: the model has datasets too; keep one of them")
        if inner is not None:
            datasets, here = inner, place
            notes += (f"{place}.datasets: indented under the launcher; read as the model's",)
        if isinstance(datasets, Mapping):
            datasets = list(datasets.values())
        for index, dataset in enumerate(items_of({"datasets": datasets}, "datasets", here)):
            spot = f"{here}.datasets[{index}]"
            data = read_dataset(_merged(dataset, known.get("datasets"), "name", spot), spot, places)
            checks.append(
                Check(name=name, network=network, data=data, notes=(*notes, *network.notes, *data.notes))
            )
    return checks


def _merged(entry: Any, definitions: Any, key: str, where: str) -> dict[str, Any]:
    """`entry` on top of the definition that has the same `key`, option by option."""
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where}: expected a mapping of options, got {entry!r}")
    entries: Sequence[Any] = definitions if isinstance(definitions, list) else ()
    same = (one for one in entries if isinstance(one, Mapping) and one.get(key) == entry.get(key))
    return {**(next(same, {}) if entry.get(key) is not None else {}), **entry}


def _read(file: Path) -> Mapping[str, Any]:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else error.strerror
        raise ConfigError(f"{file} {reason}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{file} is no YAML: {reason}") from error
    if not isinstance(data, Mapping):
        raise ConfigError(f"{file}: expected options at its top, as models:, got {type(data).__name__}")
    return data
