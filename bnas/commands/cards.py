"""The model cards of a finished run, which `report` writes: what the run's files say, gathered for each network."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bnas.commands.decision import Decision
from bnas.commands.evaluation import calibration_split, interval
from bnas.commands.export_formats import normalisation_of
from bnas.commands.extract import REFERENCE, SubnetFile, resolution
from bnas.commands.project import PRETRAINED, SUPERNET, Project
from bnas.commands.provenance import licences, origin_of_weights, versions
from bnas.commands.verify import Verification
from bnas.errors import RunError
from bnas.export import Artefact
from bnas.files import read_json, write_json, write_text
from bnas.plain import to_plain
from bnas.report.card import (
    Calibration,
    CardArtefact,
    CardData,
    CardFile,
    CardNetwork,
    Command,
    ModelCard,
)
from bnas.report.card_text import card_markdown
from bnas.space import SubnetConfig, costs, subnet_diff
from bnas.train.task import TASKS, Task

CARD = ("card.md", "card.json")
# Of the whole run, besides the subnet's own files.
SHARED = ("config.yaml", "graph.json", "space.json", PRETRAINED, SUPERNET)


def write_cards(project: Project) -> tuple[str, ...]:
    """Write card.md and card.json of every verified network; returns their paths, relative to the run folder.

    Raises:
        RunError: a file of the run is missing or damaged, or a card cannot be written.
    """
    folder = project.folder
    verification = read_json(folder.path("verified.json"), Verification)
    artefacts = read_json(folder.path("subnets", "artefacts.json"), dict[str, dict[str, Artefact]])
    shared = _files(folder.root, (folder.path(*path.split("/")) for path in SHARED))
    made: list[str] = []
    for name in verification.networks:
        card = model_card(project, name, verification, artefacts, shared)
        paths = [f"subnets/{name}/{file}" for file in CARD]
        write_text(folder.path(paths[0]), card_markdown(card))
        write_json(folder.path(paths[1]), card)
        made += paths
    return tuple(made)


def model_card(
    project: Project,
    name: str,
    verification: Verification,
    artefacts: Mapping[str, Mapping[str, Artefact]],
    shared: tuple[CardFile, ...],
) -> ModelCard:
    """The card of the network called `name`; `shared` are files of the run that are no network's own."""
    folder, config, data = project.folder, project.config, project.data
    file = read_json(folder.path("subnets", name, "subnet.json"), SubnetFile)
    whole = project.original_config
    subnet = file.config or whole
    own, original = costs(project.graph, project.space, subnet), costs(project.graph, project.space, whole)
    task, images, size = TASKS[config.train.task], len(data.test), resolution(project, name)
    networks = _networks(verification, artefacts, name, task, images)
    reference = verification.networks[REFERENCE]
    time_ms = verification.networks[name]["int8"].timing.time_ms
    decision = read_json(folder.path("search", project.hw_folder, "front.json"), Decision)
    return ModelCard(
        run=config.name,
        name=name,
        task=task.name,
        metric=task.metric_name,
        metric_label=task.label,
        model=to_plain(config.model),
        weights=origin_of_weights(project),
        config=None if file.config is None else dict(file.config.values),
        diff="" if file.config is None else _diff(project, name, subnet),
        space=project.space.digest,
        shape=data.train.shape if size is None else (data.train.shape[0], size, size),
        macs=own.macs,
        parameters=own.parameters,
        original_macs=original.macs,
        original_parameters=original.parameters,
        networks=networks,
        original=() if file.config is None else _networks(verification, artefacts, REFERENCE, task, images),
        others=tuple(
            CardArtefact(**_facts(kind, artefact))
            for kind, artefact in artefacts[name].items()
            if kind not in verification.networks[name]
        ),
        speedup_vs_int8=reference["int8"].timing.time_ms / time_ms,
        speedup_vs_fp32=reference["fp32"].timing.time_ms / time_ms,
        data=_data(project),
        calibration=_calibration(project, file),
        hardware=to_plain(verification.hardware),
        timing=_timing(project),
        made_by=_made_by(project),
        rebuilt_by=_rebuilt_by(project, name),
        files=(*_own_files(project, name), *shared),
        licences=licences(project),
        versions=versions(),
        options=to_plain(project.plain),
        notes=decision.notes,
    )


def _diff(project: Project, name: str, subnet: SubnetConfig) -> str:
    """As `show diff reference <name>` prints it; where precisions are chosen, beside the original in INT8."""
    whole = project.original_config
    return subnet_diff(project.graph, project.space, whole, subnet, names=(REFERENCE, name))


def _networks(
    verification: Verification,
    artefacts: Mapping[str, Mapping[str, Artefact]],
    name: str,
    task: Task,
    images: int,
) -> tuple[CardNetwork, ...]:
    """Every verified file of the network called `name`, the INT8 one first; accuracies are on `images` images."""
    found = []
    for kind, deployed in verification.networks[name].items():
        artefact, timing = artefacts[name][kind], deployed.timing
        low, high = interval(task, deployed.metric_percent, images)
        found.append(
            CardNetwork(
                **_facts(kind, artefact),
                metric_percent=deployed.metric_percent,
                metric_low_percent=low,
                metric_high_percent=high,
                time_ms=timing.time_ms,
                p10_ms=timing.p10_ms,
                p90_ms=timing.p90_ms,
                p99_ms=timing.p99_ms,
                ratio=timing.ratio,
                ratio_error_percent=timing.ratio_error_percent,
                converged=timing.converged,
                rounds=timing.rounds,
                calls=timing.calls,
                throughput_per_s=deployed.throughput_per_s,
                details=deployed.details,
            )
        )
    return tuple(sorted(found, key=lambda own: own.name != "int8"))


def _facts(kind: str, artefact: Artefact) -> dict[str, Any]:
    """What an artefact's card has of it."""
    return {
        "name": kind,
        "path": artefact.path,
        "format": artefact.format,
        "precision": artefact.precision,
        "digest": artefact.digest,
        "size_bytes": artefact.size_bytes,
        "largest_difference": artefact.largest_difference,
        "agreement_percent": artefact.agreement_percent,
    }


def _data(project: Project) -> CardData:
    data = project.data
    mean, std = normalisation_of(data.train) or (None, None)
    return CardData(
        name=data.name,
        train_images=len(data.train),
        val_images=len(data.val),
        test_images=len(data.test),
        shape=data.train.shape,
        classes=data.train.classes,
        mean=mean,
        std=std,
    )


def _calibration(project: Project, file: SubnetFile) -> Calibration:
    """As `quantize` and `extract` took the images; the original's batch norms are as training left them."""
    config, count = project.config, len(project.data.train)
    split, images = calibration_split(project)
    return Calibration(
        images=min(config.quantize.samples, len(images)),
        split=split,
        norm_images=None if file.config is None else min(config.train.recalibrate_images, count),
        quantizer=to_plain(config.quantize),
    )


def _timing(project: Project) -> dict[str, object]:
    hw, measure = project.config.hw, to_plain(project.config.measure)
    names = ("min_rounds", "max_rounds", "block_ms", "settle_ms", "warmup_ms", "target_ratio_error_percent")
    return {"threads": hw.thread_count, "batch": hw.batch, **{name: measure[name] for name in names}}


def _made_by(project: Project) -> tuple[Command, ...]:
    """The commands of the stages that the ledger has; what was done for other hardware is no part of it."""
    conf = shlex.quote(f"conf={project.folder.path('config.yaml')}")
    found = []
    for record in project.folder.records():
        stage, _, hw = record.stage.partition("@")
        if hw in ("", project.hw_folder) and stage != "report":
            found.append(Command(does=stage, command=f"python -m bnas {stage} {conf}"))
    return (*found, Command(does="report", command=f"python -m bnas report {conf}"))


def _rebuilt_by(project: Project, name: str) -> tuple[Command, ...]:
    folder, run = project.folder, project.config.name
    subnet, card = folder.path("subnets", name), f"subnets/{name}/{CARD[0]}"
    conf = shlex.quote(f"conf={folder.path('config.yaml')}")
    python = f"import bnas; network = bnas.rebuild({str(subnet)!r})"
    return (
        Command(
            does="Check the files below",
            command=f"cd {shlex.quote(str(folder))} && grep -E '^[0-9a-f]{{64}}  ' {shlex.quote(card)} | sha256sum -c",
        ),
        Command(does="The network as a plain PyTorch module", command=f"python -c {shlex.quote(python)}"),
        Command(
            does="Its exported files again, from its weights",
            command=f"python -m bnas quantize {conf} --force && python -m bnas export {conf}",
        ),
        Command(
            does="All of it again, from the options alone",
            command=f"python -m bnas run {conf} {shlex.quote(f'name={run}-again')}",
        ),
    )


def _own_files(project: Project, name: str) -> tuple[CardFile, ...]:
    """All files in the network's folder but its card."""
    paths = sorted(project.folder.path("subnets", name).iterdir())
    kept = (path for path in paths if path.is_file() and path.name not in CARD and path.name[0] != ".")
    return _files(project.folder.root, kept)


def _files(root: Path, paths: Iterable[Path]) -> tuple[CardFile, ...]:
    """Those of `paths` that are there."""
    found = []
    for path in paths:
        if path.is_file():
            digest = hashlib.sha256()
            try:
                with open(path, "rb") as file:
                    while chunk := file.read(1 << 20):
                        digest.update(chunk)
            except OSError as error:
                raise RunError(f"cannot read {path}: {error.strerror}") from error
            found.append(
                CardFile(
                    path=path.relative_to(root).as_posix(),
                    size_bytes=path.stat().st_size,
                    sha256=digest.hexdigest(),
                )
            )
    return tuple(found)
