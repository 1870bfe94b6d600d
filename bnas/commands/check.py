"""`bnas check`: top-1 and top-5 of networks in any format, by the accuracy checker's YAML or on a run's test images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from bnas.accuracy import Check, Checked, Places, Task, check_all, read_batches, read_checks
from bnas.accuracy.checker_network import BuiltIn, an_ir_has
from bnas.commands.extract import resolution
from bnas.commands.invocation import Invocation
from bnas.commands.project import Project, open_project
from bnas.data import batches
from bnas.errors import ConfigError, RunError, did_you_mean
from bnas.export import Artefact, check_digest
from bnas.export.run import SUFFIXES, load
from bnas.files import read_json, write_json
from bnas.measure import Hardware, HwConfig, detect
from bnas.space import resized

OPTIONS = {
    "yaml": "the accuracy checker's configuration",
    "models": "the folder of its networks, or the one network",
    "source": "the folder of its images",
    "annotations": "the list of images and labels, or its folder",
    "definitions": "its dataset_definitions.yml",
    "built_in": "yes or no: whether networks have mo_params built in (IR has, unless a run wrote it without)",
    "images": "check on so many images, spread evenly over all",
    "batch": "images read at a time",
    "output": "also write everything to this JSON file",
}
_OF_YAML = ("models", "source", "annotations", "definitions", "built_in")
_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What `output=FILE` holds."""

    checks: tuple[Checked, ...]
    hardware: Hardware


def command(invocation: Invocation) -> None:
    """Check the networks of `yaml=FILE`, or those that the words name on the test images of a run.

    Raises:
        ConfigError, DataError, ExportError, ModelError, RunError: what cannot be read or run, and where it says so.
    """
    given = dict(override.partition("=")[::2] for override in invocation.overrides)
    own = {name: value for name, value in given.items() if name in OPTIONS}
    others = tuple(word for word in invocation.overrides if word.partition("=")[0] not in OPTIONS)
    count, batch = _whole(own, "images"), _whole(own, "batch")
    if "yaml" in own:
        _refuse_words(invocation, others)
        hw, tasks = HwConfig(), _tasks_of_yaml(own, count, batch)
    else:
        for name in _OF_YAML:
            if name in own:
                raise ConfigError(f"check: {name} goes with --yaml FILE")
        project = open_project(replace(invocation, arguments=(), overrides=others))
        hw, tasks = project.config.hw, _tasks_of_run(project, invocation.arguments, count, batch)
    done = check_all(tasks, lambda checked: print(*checked.lines(), sep="\n", flush=True))
    machine = detect(hw if hw.where == "here" else HwConfig())
    print(f"on {machine.cpu}, {machine.logical_cores} logical cores, {machine.os}")
    for note in dict.fromkeys((*(note for checked in done for note in checked.notes), *machine.notes)):
        print(f"note: {note}")
    if "output" in own:
        write_json(own["output"], Checks(checks=tuple(done), hardware=machine))


def _tasks_of_yaml(own: dict[str, str], count: int | None, batch: int | None) -> list[Task]:
    paths = {
        name: Path(own[name]) for name in ("models", "source", "annotations", "definitions") if name in own
    }
    for name, path in paths.items():
        if not path.exists():
            raise ConfigError(f"{name}: there is no {path}")
    built_in = _built_in(own.get("built_in", "auto"))
    checks = read_checks(Path(own["yaml"]), Places(**paths), built_in=built_in)
    return [_task_of_check(check, count, batch) for check in checks]


def _task_of_check(check: Check, count: int | None, batch: int | None) -> Task:
    samples = check.data.samples.spread(count)
    network = check.network
    predict = load(network.path, batch=network.batch)
    preprocess = network.preprocess
    return Task(
        name=check.name,
        network=network.path,
        data=f"{check.data.name} ({check.data.folder})",
        same=f"{check.data.folder} {hash((samples.paths, samples.labels))}",
        predict=predict if preprocess is None else lambda x: predict(preprocess.applied(x)),
        batches=read_batches(samples, check.prepare, batch or check.data.batch or _BATCH),
        images=len(samples),
        name_of=lambda i: str(samples.paths[i]),
        metrics=check.data.metrics,
        notes=(*check.notes, check.channels_note),
        largest_label=max(samples.labels),
    )


def _tasks_of_run(project: Project, words: Sequence[str], count: int | None, batch: int | None) -> list[Task]:
    if not words:
        raise ConfigError(
            "check: which network? as in: python -m bnas check subnets/A/int8.xml, or check --yaml FILE"
        )
    if project.config.train.task != "classification":
        raise ConfigError(
            f"train.task: top-1 is for classification, this run's is {project.config.train.task}; what its networks "
            "are worth on the test images tells: python -m bnas verify"
        )
    found = [(word, *_of_run(project, word)) for word in words]
    test = project.data.test
    images = len(test) if count is None else min(count, len(test))
    order = [place * len(test) // images for place in range(images)] if images else []
    return [
        Task(
            name=word,
            network=path,
            data=f"the test images of {project.config.data.name}",
            same="",
            predict=_of_normalised(path, artefact, size),
            batches=batches(test, batch or _BATCH, order=order),
            images=images,
            name_of=lambda i: f"test image {order[i]}",
            notes=() if artefact else (f"{word}: no run wrote it; it is given the run's normalised images",),
        )
        for word, path, artefact, size in found
    ]


def _of_normalised(path: Path, artefact: Artefact | None, size: int | None) -> Callable[[Tensor], Tensor]:
    """The network as a function of a run's images, which are normalised, whatever it has built in."""
    predict, preprocess = load(path), None if artefact is None else artefact.preprocess

    def run(x: Tensor) -> Tensor:
        x = resized(x, size)
        return predict(x if preprocess is None else preprocess.stored(x))

    return run


def _of_run(project: Project, word: str) -> tuple[Path, Artefact | None, int | None]:
    """The file that a word names, here or in the run; what the run knows of it, and its images' size.

    Raises:
        RunError: there is none, or it is not what was exported.
    """
    path = Path(word) if Path(word).exists() else project.folder.path(word)
    if not path.exists():
        files = project.folder.root.glob("subnets/*/*")
        known = [str(file.relative_to(project.folder.root)) for file in files if file.suffix in SUFFIXES]
        raise RunError(
            f"check: there is no {word}, neither here nor in {project.folder}{did_you_mean(word, known)}"
        )
    artefact = recorded(path)
    if artefact is None:
        return path, None, None
    check_digest(replace(artefact, path=str(path)))
    mine = project.folder.path("subnets").resolve() == path.resolve().parent.parent
    return path, artefact, resolution(project, path.parent.name) if mine else None


def recorded(path: Path) -> Artefact | None:
    """What the run that wrote the network subnets/<name>/<file> noted of it; None where no run did.

    Raises:
        RunError: the run's record is damaged.
    """
    subnets = path.resolve().parent.parent
    known: list[Artefact] = []
    if (subnets / "artefacts.json").is_file():
        record = read_json(subnets / "artefacts.json", dict[str, dict[str, Artefact]])
        known += [artefact for files in record.values() for artefact in files.values()]
    if (subnets / "int8.json").is_file():
        known += read_json(subnets / "int8.json", dict[str, Artefact]).values()
    same = (own for own in known if (subnets.parent / own.path).resolve() == path.resolve())
    return next(same, None)


def _built_in(asked: str) -> BuiltIn:
    def by_record(path: Path) -> bool:
        artefact = recorded(path)
        return an_ir_has(path) if artefact is None else artefact.preprocess is not None

    known: dict[str, BuiltIn] = {"auto": by_record, "yes": lambda path: True, "no": lambda path: False}
    if asked not in known:
        raise ConfigError(f"built_in: expected yes, no or auto, got {asked!r}")
    return known[asked]


def _refuse_words(invocation: Invocation, others: Sequence[str]) -> None:
    """What says nothing to a check of the accuracy checker's: it is no run."""
    if others:
        name = others[0].partition("=")[0]
        raise ConfigError(f"check --yaml: no such option '{name}'{did_you_mean(name, OPTIONS)}")
    given = {f"'{word}'": True for word in invocation.arguments}
    given |= {f"conf={invocation.conf}": bool(invocation.conf), f"--hw {invocation.hw}": bool(invocation.hw)}
    for word, there in given.items():
        if there:
            raise ConfigError(f"check --yaml: the file says what to check, so {word} goes without it")


def _whole(own: dict[str, str], name: str) -> int | None:
    value = own.get(name)
    if value is None:
        return None
    if not value.isdecimal() or int(value) < 1:
        raise ConfigError(f"{name}: expected a whole number above 0, got {value!r}")
    return int(value)
