"""`bnas bench`: the exported networks of a run under load, by MLCommons LoadGen, all in one interleaved run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from bnas import progress
from bnas.commands.extract import REFERENCE, SubnetFile, resolution
from bnas.commands.invocation import Invocation
from bnas.commands.project import Project, open_project
from bnas.commands.quantize import absolute, subnet_names
from bnas.errors import ConfigError, RunError, did_you_mean, require
from bnas.export import Artefact, check_digest
from bnas.files import read_json, write_json
from bnas.load import (
    FOLDER,
    Comparison,
    Entry,
    LoadConfig,
    LoadRow,
    Samples,
    Where,
    compare,
    print_load,
    run_bench,
)
from bnas.load.loadgen import EXTRA
from bnas.measure import Hardware, detect
from bnas.measure.hardware import pinned
from bnas.plain import digest
from bnas.space import costs, resized

FILE = "bench.json"
READABLE = ("openvino_ir", "onnx")  # formats that OpenVINO runs


@dataclass(frozen=True, kw_only=True)
class Bench:
    """`bench.json`: what every network did under load, how it compares with the original, and on what it ran."""

    rows: tuple[LoadRow, ...]
    comparisons: tuple[Comparison, ...]
    macs: dict[str, int]
    load: LoadConfig
    loadgen_version: str
    hardware: Hardware
    images: int


def command(invocation: Invocation) -> None:
    """Run the newest run's networks under load, or those of `conf=`; --force does again what was done before."""
    for word in invocation.arguments:
        raise ConfigError(f"bench: no other word expected, got '{word}'")
    for option, asked in (("--check", invocation.check), ("--listen", invocation.listen is not None)):
        if asked:
            raise ConfigError(f"{option}: goes with `measure`, not with `bench`")
    project = open_project(invocation)
    if not project.folder.exists():
        raise RunError(f"{project.folder} does not exist; start it with: python -m bnas run conf=…")
    project.folder.require("export")
    with project.folder.locked():
        if invocation.force:
            shutil.rmtree(project.folder.path(FOLDER), ignore_errors=True)
        result = bench(project, project.config.load)
    print_load(result.rows, result.comparisons)
    files = (project.folder.path(FILE), project.folder.path(FOLDER))
    progress.say(f"bench: the table above → {files[0]}, LoadGen's logs → {files[1]}")


def bench(project: Project, config: LoadConfig) -> Bench:
    """Run the exported networks as `config` says and write bench.json.

    Raises:
        ConfigError: no such network, or hardware that is not this machine's CPU.
        RunError: an artefact is missing or damaged.
        MissingPackageError, MeasureError: as `run_bench`.
    """
    require("mlperf_loadgen", EXTRA)
    hw = project.config.hw
    if hw.where != "here" or hw.backend != "openvino":
        raise ConfigError(
            f"hw.name: '{hw.name}' runs {hw.backend} {hw.where}; bench runs OpenVINO here, as with --hw cpu"
        )
    if config.accuracy and project.config.train.task != "classification":
        progress.say(
            f"bench: no accuracies: LoadGen's log of top-1 classes is not for {project.config.train.task}"
        )
        config = replace(config, accuracy=False)
    entries = _entries(project, config)
    hardware = detect(hw)
    same = (hardware.cpu, hardware.cpus, hardware.host, hardware.runtime_version)
    where = Where(threads=hw.thread_count, machine=digest(same))
    with pinned(hw):
        rows = run_bench(entries, config, project.folder.root, where)
    macs = {entry.name: _macs(project, entry.name.partition("/")[0]) for entry in entries}
    result = Bench(
        rows=rows,
        comparisons=compare(rows, macs),
        macs=macs,
        load=config,
        loadgen_version=version("mlcommons-loadgen"),
        hardware=hardware,
        images=len(project.data.test),
    )
    write_json(project.folder.path(FILE), result)
    return result


def _entries(project: Project, config: LoadConfig) -> list[Entry]:
    """The networks asked for, their files checked against their digests."""
    path = project.folder.path("subnets", "artefacts.json")
    artefacts = {
        f"{name}/{kind}": absolute(project, artefact)
        for name, files in read_json(path, dict[str, dict[str, Artefact]]).items()
        for kind, artefact in files.items()
    }
    entries = []
    for name in config.networks or _usual(project):
        if name not in artefacts:
            raise ConfigError(f"load.networks: no exported network '{name}'{did_you_mean(name, artefacts)}")
        artefact = artefacts[name]
        if artefact.format not in READABLE:
            raise ConfigError(
                f"load.networks: {name} is {artefact.format}; OpenVINO runs {' and '.join(READABLE)}: "
                "python -m bnas export --force export=openvino_ir"
            )
        check_digest(artefact)
        load = partial(_images, project, resolution(project, name.partition("/")[0]))
        samples = Samples(count=len(project.data.test), load=load)
        entries.append(Entry(name=name, path=Path(artefact.path), digest=artefact.digest, samples=samples))
    return entries


def _usual(project: Project) -> tuple[str, ...]:
    """The original network in FP32 and INT8, and each subnet in INT8."""
    names = [name for name in subnet_names(project) if name != REFERENCE]
    return (f"{REFERENCE}/fp32", f"{REFERENCE}/int8", *(f"{name}/int8" for name in names))


def _images(project: Project, size: int | None, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
    images, labels = project.data.test.batch(list(indices))
    if labels.ndim > 1:  # boxes: only the accuracy mode reads labels, and only classes
        labels = labels.new_zeros(len(labels), dtype=torch.int64)
    return resized(images, size), labels


def _macs(project: Project, name: str) -> int:
    file = read_json(project.folder.path("subnets", name, "subnet.json"), SubnetFile)
    return costs(project.graph, project.space, file.config or project.space.largest).macs
