"""`bnas report`: report.json, report.html and the table, from what was verified."""

from __future__ import annotations

from dataclasses import replace

from bnas.commands.extract import REFERENCE, SubnetFile
from bnas.commands.latency_report import read_campaign
from bnas.commands.project import Made, Project
from bnas.commands.search import Decision
from bnas.commands.verify import Verification
from bnas.files import read_json
from bnas.plain import to_plain
from bnas.report import (
    EvaluationPoint,
    FrontPoint,
    Report,
    SubnetReport,
    Verified,
    latency_facts,
    print_table,
    subnet_report,
    write_latency,
    write_report,
)
from bnas.space import SubnetConfig, costs


def report(project: Project) -> Made:
    """Gather the run's results, write them and print the table."""
    folder, place = project.folder, ("search", project.hw_folder)
    decision = read_json(folder.path(*place, "front.json"), Decision)
    verification = read_json(folder.path("verified.json"), Verification)
    latency = read_campaign(project)
    reference = _row(project, REFERENCE, decision, verification)
    subnets = tuple(_row(project, name, decision, verification, reference) for name in decision.chosen)
    result = Report(
        run=project.config.name,
        task=project.config.train.task,
        dataset=project.data.name,
        reference=reference,
        subnets=subnets,
        reference_val_fp32_percent=decision.reference.top1_fp32_percent,
        reference_val_int8_percent=decision.reference.top1_int8_percent,
        front=_front(decision),
        evaluations=tuple(
            EvaluationPoint(metric_percent=c.values["top1_percent"], latency_ms=c.values["latency_ms"])
            for c in decision.front.evaluations
        ),
        hypervolume=decision.front.hypervolume,
        hardware=to_plain(verification.hardware),
        protocol=_protocol(project, verification),
        latency_model=latency_facts(latency),
        space={"size": project.space.size, "choices": len(project.space.choices)},
        notes=decision.notes,
        loss_points=project.config.loss_points,
    )
    _, page = write_report(result, folder.root, latency)
    write_latency(latency, folder.path("latency", project.hw_folder))
    print_table(result)
    return Made(paths=("report.json", "report.html"), line=f"the table above → {page}")


def _row(
    project: Project,
    name: str,
    decision: Decision,
    verification: Verification,
    reference: SubnetReport | None = None,
) -> SubnetReport:
    file = read_json(project.folder.path("subnets", name, "subnet.json"), SubnetFile)
    config: SubnetConfig = file.config or project.space.largest
    total = costs(project.graph, project.space, config)
    int8, fp32 = (verification.networks[name][kind] for kind in ("int8", "fp32"))
    member = decision.reference if file.config is None else _member(decision, config)
    # The machine was faster or slower when the front was measured: by as much as the original network was.
    now = verification.networks[REFERENCE]["int8"].timing.time_ms / decision.reference.latency_ms
    return subnet_report(
        name=name,
        config=config.values,
        top1_fp32_percent=fp32.top1_percent,
        top1_int8_percent=int8.top1_percent,
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
    )


def _member(decision: Decision, config: SubnetConfig) -> Verified:
    return next(member for member in decision.members if member.config == config)


def _front(decision: Decision) -> tuple[FrontPoint, ...]:
    """All members of the front as the search saw them, and those measured also as measured."""
    measured = {member.config: member for member in decision.members}
    points = []
    for candidate in decision.front.members:
        point = FrontPoint(
            config_digest=candidate.config.digest,
            metric_percent=candidate.values["top1_percent"],
            predicted_latency_ms=candidate.values["latency_ms"],
            names=tuple(name for name, config in decision.chosen.items() if config == candidate.config),
        )
        if member := measured.get(candidate.config):
            point = replace(
                point,
                top1_int8_percent=member.top1_int8_percent,
                latency_ms=member.latency_ms,
                latency_p10_ms=member.latency_p10_ms,
                latency_p90_ms=member.latency_p90_ms,
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
