"""`bnas report`: report.json, report.html, its figures as PNG, and the table, from what was verified."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from bnas import progress
from bnas.commands.cards import write_cards
from bnas.commands.decision import Decision
from bnas.commands.extract import REFERENCE, SubnetFile
from bnas.commands.finetune import GAIN
from bnas.commands.latency_report import read_campaign
from bnas.commands.project import Made, Project
from bnas.commands.verify import Verification
from bnas.errors import MissingPackageError
from bnas.files import read_json, write_json
from bnas.measure import LatencyModel
from bnas.measure.latency import predict_many
from bnas.plain import to_plain
from bnas.report import (
    EvaluationPoint,
    FileReport,
    Finetuned,
    FrontPoint,
    Importance,
    Report,
    SubnetReport,
    Verified,
    latency_facts,
    print_table,
    subnet_report,
    write_latency,
    write_report,
)
from bnas.report.importance import importance_of
from bnas.report.png import write_png
from bnas.search import ParetoFront
from bnas.space import SubnetConfig, costs, layer_costs
from bnas.train.task import TASKS

FIGURES = "figures"  # the folder of the PNG files
IMPORTANT = 3  # values, whose importance is told, at most


def report(project: Project) -> Made:
    """Gather the run's results, write them and print the table."""
    folder, place = project.folder, ("search", project.hw_folder)
    task = TASKS[project.config.train.task]
    cards = write_cards(project)  # before the files of each subnet are listed
    decision = read_json(folder.path(*place, "front.json"), Decision)
    verification = read_json(folder.path("verified.json"), Verification)
    latency = read_campaign(project)
    front = decision.front
    evaluations = _evaluations(project, front)
    reference = _row(project, REFERENCE, decision, verification)
    subnets = tuple(_row(project, name, decision, verification, reference) for name in decision.chosen)
    result = Report(
        run=project.config.name,
        task=task.name,
        metric=task.metric_name,
        metric_label=task.label,
        dataset=project.data.name,
        reference=reference,
        subnets=subnets,
        reference_val_fp32_percent=decision.reference.metric_fp32_percent,
        reference_val_int8_percent=decision.reference.metric_int8_percent,
        front=_front(project, decision),
        evaluations=evaluations,
        hypervolume=front.hypervolume,
        hardware=to_plain(verification.hardware),
        protocol=_protocol(project, verification),
        latency_model=latency_facts(latency),
        space={"size": project.space.size, "choices": len(project.space.choices)},
        notes=decision.notes,
        loss_points=project.config.loss_points,
        search=_search(project),
        search_images=len(project.data.val),
        report_images=len(project.data.test),
        objectives=front.objectives,
        constraints=front.constraints,
        failed=dict(sorted(Counter(own.reason for own in front.failed).items())),
        rounds=front.rounds,
        choices=project.space.choices,
        importance=_importance(project, front, evaluations),
    )
    _, page = write_report(result, folder.root, latency)
    write_json(
        folder.path(*place, "report.json"), result
    )  # for comparisons: of this hardware, whatever comes later
    write_latency(latency, folder.path("latency", project.hw_folder))
    figures = _figures(project, result)
    print_table(result)
    made = ("report.json", "report.html", "/".join((*place, "report.json")), *cards, *figures)
    return Made(paths=made, line=f"the table above → {page}")


def _row(
    project: Project,
    name: str,
    decision: Decision,
    verification: Verification,
    reference: SubnetReport | None = None,
) -> SubnetReport:
    file = read_json(project.folder.path("subnets", name, "subnet.json"), SubnetFile)
    config: SubnetConfig = file.config or project.original_config
    total = costs(project.graph, project.space, config)
    int8, fp32 = (verification.networks[name][kind] for kind in ("int8", "fp32"))
    member = decision.reference if file.config is None else _member(decision, config)
    # The machine was faster or slower when the front was measured: by as much as the original network was.
    now = verification.networks[REFERENCE]["int8"].timing.time_ms / decision.reference.latency_ms
    row = subnet_report(
        name=name,
        config=config.values,
        metric_fp32_percent=fp32.metric_percent,
        metric_int8_percent=int8.metric_percent,
        latency_ms=int8.timing.time_ms,
        latency_p10_ms=int8.timing.p10_ms,
        latency_p90_ms=int8.timing.p90_ms,
        latency_fp32_ms=fp32.timing.time_ms,
        latency_fp32_p10_ms=fp32.timing.p10_ms,
        latency_fp32_p90_ms=fp32.timing.p90_ms,
        throughput_per_s=int8.throughput_per_s,
        macs=total.macs,
        parameters=total.parameters,
        size_bytes=int8.size_bytes,
        command=f'python -c \'import bnas; subnet = bnas.extract_subnet("{project.folder}", "{name}")\'',
        reference=reference,
        predicted_latency_ms=now * member.predicted_latency_ms,
        details=int8.details,
    )
    return replace(row, files=_files(project, name), finetuned=_finetuned(project, name))


def _files(project: Project, name: str) -> tuple[FileReport, ...]:
    """The files that a person may want of a subnet."""
    folder = project.folder.path("subnets", name)
    return tuple(
        FileReport(path=path.relative_to(project.folder.root).as_posix(), size_bytes=path.stat().st_size)
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".")
    )


def _finetuned(project: Project, name: str) -> Finetuned | None:
    path: Path = project.folder.path("subnets", name, GAIN)
    return read_json(path, Finetuned) if path.exists() else None


def _evaluations(project: Project, front: ParetoFront) -> tuple[EvaluationPoint, ...]:
    """Every subnet as the search saw it, with the error bar of its predicted latency."""
    metric = TASKS[project.config.train.task].metric_name
    model = read_json(project.folder.path("latency", project.hw_folder, "model.json"), LatencyModel)
    layers = [layer_costs(project.graph, project.space, own.config) for own in front.evaluations]
    further = [*(goal.name for goal in front.objectives), *(own.name for own in front.constraints)]
    return tuple(
        EvaluationPoint(
            metric_percent=own.values[metric],
            latency_ms=own.values["latency_ms"],
            config_digest=own.config.digest,
            indices=project.space.encode(own.config),
            latency_low_ms=bar.low_ms,
            latency_high_ms=bar.high_ms,
            macs=costs(project.graph, project.space, own.config).macs,
            share=own.share,
            values={
                name: own.values[name]
                for name in further
                if name in own.values and name not in (metric, "latency_ms", "macs")
            },
        )
        for own, bar in zip(front.evaluations, predict_many(model, layers), strict=True)
    )


def _importance(
    project: Project, front: ParetoFront, evaluations: tuple[EvaluationPoint, ...]
) -> tuple[Importance, ...]:
    """Which choices matter for the objectives, among subnets that were evaluated on all images."""
    whole = [own for own in evaluations if own.share == 1]
    metric = TASKS[project.config.train.task].metric_name
    values = {
        metric: [own.metric_percent for own in whole],
        "latency_ms": [own.latency_ms for own in whole],
        **{
            goal.name: [own.values[goal.name] for own in whole]
            for goal in front.objectives
            if all(goal.name in own.values for own in whole)
        },
    }
    indices = [own.indices for own in whole]
    named = list(values.items())[:IMPORTANT]
    return tuple(importance_of(name, project.space.choices, indices, told) for name, told in named)


def _search(project: Project) -> dict[str, object]:
    """The algorithm and its options; who evaluates changes nothing that is found."""
    options = {name: x for name, x in to_plain(project.config.search).items() if name != "workers"}
    return {**options, "seed": project.config.seed}


def _figures(project: Project, result: Report) -> tuple[str, ...]:
    """The paths of the figures for papers; says how to get them, where matplotlib is missing."""
    try:
        written = write_png(result, project.folder.path(FIGURES))
    except MissingPackageError as error:
        progress.say(f"no {FIGURES}/*.png were written: {error}")
        return ()
    return tuple(f"{FIGURES}/{path.name}" for path in written)


def _member(decision: Decision, config: SubnetConfig) -> Verified:
    return next(member for member in decision.members if member.config == config)


def _front(project: Project, decision: Decision) -> tuple[FrontPoint, ...]:
    """All members of the front as the search saw them, and those measured also as measured."""
    metric = TASKS[project.config.train.task].metric_name
    measured = {member.config: member for member in decision.members}
    points = []
    for candidate in decision.front.members:
        point = FrontPoint(
            config_digest=candidate.config.digest,
            metric_percent=candidate.values[metric],
            predicted_latency_ms=candidate.values["latency_ms"],
            names=tuple(name for name, config in decision.chosen.items() if config == candidate.config),
        )
        if member := measured.get(candidate.config):
            point = replace(
                point,
                metric_int8_percent=member.metric_int8_percent,
                latency_ms=member.latency_ms,
                latency_p10_ms=member.latency_p10_ms,
                latency_p90_ms=member.latency_p90_ms,
                predicted={"latency_ms": member.predicted_latency_ms, **member.predicted},
                measured={"latency_ms": member.latency_ms, **member.measured},
            )
        points.append(point)
    return tuple(points)


def _protocol(project: Project, verification: Verification) -> dict[str, object]:
    """How the numbers of the table came about."""
    config, timing = project.config, verification.networks[REFERENCE]["int8"].timing
    return {
        "command": f"python -m bnas run conf={project.folder.path('config.yaml')} name={config.name}-again",
        "hw": config.hw.name,
        "backend": config.hw.backend,
        "threads": config.hw.thread_count,
        "batch": config.hw.batch,
        "precision_of_float_layers": "f32",
        "rounds": timing.rounds,
        "calls": timing.calls,
        "block_ms": config.measure.block_ms,
        "interleaved": "INT8 and FP32 of every network in turn, order rotated each round; median over all calls",
        "test_images": len(project.data.test),
        "validation_images": len(project.data.val),
        "test_images_decide_nothing": True,
    }
