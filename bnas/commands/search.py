"""`bnas search`: search on predicted latency, then decide by measuring the front on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnas import progress
from bnas import search as searching
from bnas.commands.project import Made, Project
from bnas.data import epoch_order
from bnas.files import read_json, write_json
from bnas.measure import BACKENDS, LatencyModel, Runner, Timing, predict_ms, prepare, time_interleaved
from bnas.measure.campaign import reference_of
from bnas.measure.hardware import pinned
from bnas.plain import digest
from bnas.quantize import Quantized, quantize
from bnas.report import Verified, choice_notes, choose
from bnas.search import OBJECTIVES, Candidate, ParetoFront
from bnas.space import SubnetConfig, costs, layer_costs, resized, resolution_of
from bnas.supernet import Supernet, extract_subnet
from bnas.train import evaluate, evaluate_subnet, recalibrate, recalibration_batches

MIDDLE = "middle"  # of the space: the reference of the latency campaign, beside those that are decided on


@dataclass(frozen=True, kw_only=True)
class Decision:
    """`search/<hw>/front.json`: what the search found, and what was chosen by measuring it.

    Accuracies are on the validation images. `members` are those of the front that were measured; `chosen`
    maps A, B and C to configs; `notes` say what is unusual about the choice.
    """

    front: ParetoFront
    reference: Verified
    members: tuple[Verified, ...]
    chosen: dict[str, SubnetConfig]
    notes: tuple[str, ...]


def search(project: Project) -> Made:
    """Search, verify the front, choose A, B and C."""
    config, data, folder = project.config, project.data, project.folder
    place = ("search", project.hw_folder)
    latency = read_json(folder.path("latency", project.hw_folder, "model.json"), LatencyModel)
    supernet = project.supernet(trained=True)
    calibration = recalibration_batches(data.train, config.train.recalibrate_images, seed=config.seed)

    def evaluated(subnet: SubnetConfig) -> Mapping[str, float]:
        total = costs(project.graph, project.space, subnet)
        return {
            "top1_percent": evaluate_subnet(
                lambda chosen: extract_subnet(supernet, chosen),
                subnet,
                calibration,
                data.val,
                precision=config.train.precision,
            ),
            "latency_ms": _predicted_ms(project, latency, subnet),
            "macs": total.macs,
            "parameters": total.parameters,
        }

    front = searching.search(
        project.space,
        (OBJECTIVES["top1_percent"], OBJECTIVES["latency_ms"]),
        evaluated,
        config.search,
        seed=config.seed,
        log=folder.path(*place, "evaluations.jsonl"),
        evaluator=_evaluator(project, latency),
        predicted=("latency_ms",),
    )
    decision = _decide(project, supernet, front, latency, calibration)
    write_json(folder.path(*place, "front.json"), decision)
    for note in decision.notes:
        progress.say(f"note: {note}")
    path = folder.path(*place, "front.json")
    return Made(
        paths=("/".join((*place, "front.json")), "/".join((*place, "evaluations.jsonl"))),
        line=f"{len(front.evaluations)} subnets evaluated, {len(front.members)} on the front, "
        f"{len(decision.members)} of them measured; chose {', '.join(decision.chosen)} → {path}",
    )


def _evaluator(project: Project, latency: LatencyModel) -> str:
    """What an evaluation depends on besides the subnet."""
    record = project.folder.require("train")
    return digest({"train": record.inputs, "latency": latency})


def spread(members: Sequence[Candidate], count: int) -> tuple[Candidate, ...]:
    """`count` members at equal steps along the front, its two ends among them."""
    if len(members) <= count:
        return tuple(members)
    return tuple(members[round(i * (len(members) - 1) / (count - 1))] for i in range(count))


def calibration_images(project: Project) -> list[Tensor]:
    """Training images [1, C, H, W] on which quantizers see the ranges of activations."""
    images = project.data.train
    count = getattr(project.config.quantize, "samples", 300)
    order = epoch_order(len(images), project.config.seed, 0)[:count]
    batch, _ = images.batch(order)
    return [batch[i : i + 1] for i in range(len(batch))]


def _decide(
    project: Project,
    supernet: Supernet,
    front: ParetoFront,
    latency: LatencyModel,
    calibration: Sequence[tuple[Tensor, Tensor]],
) -> Decision:
    """Quantize and time the front's members beside the original network, and choose among them."""
    config, data = project.config, project.data
    members = spread(front.members, config.front_size)
    images = calibration_images(project)
    runners, accuracies = {}, {}
    networks: dict[str, SubnetConfig | None] = {
        "reference": None,
        **{member.config.digest: member.config for member in members},
    }
    with progress.bar("verify the front", total=len(networks) + 1) as step:
        for name, subnet in networks.items():
            module = project.original() if subnet is None else extract_subnet(supernet, subnet)
            size = resolution_of(subnet)
            if subnet is not None:
                recalibrate(module, calibration, resolution=size)
            example, own = resized(project.example, size), (resized(image, size) for image in images)
            runner = prepare(_deployed(project, module, own, example), config.hw, example)
            accuracies[name] = (
                evaluate(module.to(memory_format=torch.channels_last), data.val, resolution=size),
                evaluate(runner.predict, data.val, resolution=size),
            )
            runners[name] = runner
            step(note=f"INT8 top-1 {accuracies[name][1]:.2f} %")
        runners[MIDDLE] = _middle(project, supernet)
        with pinned(config.hw):
            timings = time_interleaved(runners, config.measure)
        step()
    # Predictions are of a moment when the campaign's reference took `reference_ms`; now it takes another time.
    now = timings[MIDDLE].time_ms / latency.reference_ms
    predicted = {member.config.digest: now * member.values["latency_ms"] for member in members}
    predicted["reference"] = now * _predicted_ms(project, latency, project.space.largest)
    verified = {
        name: _verified(project, subnet, accuracies[name], timings[name], predicted[name])
        for name, subnet in networks.items()
    }
    reference = verified.pop("reference")
    goal = (reference.top1_fp32_percent, config.loss_points - config.loss_margin_points)
    chosen = choose(tuple(verified.values()), *goal)
    return Decision(
        front=front,
        reference=reference,
        members=tuple(verified.values()),
        chosen={name: member.config for name, member in chosen.items()},
        notes=choice_notes(chosen, *goal),
    )


def _middle(project: Project, supernet: Supernet) -> Runner:
    """The reference of the latency campaign, made as it was there."""
    subnet, hw = reference_of(project.space), project.config.hw
    example = resized(project.example, resolution_of(subnet))
    deploy = BACKENDS[hw.backend].deploy(hw, project.config.quantize)
    return prepare(deploy(extract_subnet(supernet, subnet), example), hw, example)


def _predicted_ms(project: Project, latency: LatencyModel, subnet: SubnetConfig) -> float:
    return predict_ms(latency, layer_costs(project.graph, project.space, subnet))


def _deployed(
    project: Project, module: nn.Module, images: Iterable[Tensor], example: Tensor
) -> nn.Module | Quantized:
    """The form in which `module` will run on the hardware: quantized where that is INT8."""
    if project.config.hw.precision != "int8":
        return module
    return quantize(module, project.config.quantize, images, example)


def _verified(
    project: Project,
    subnet: SubnetConfig | None,
    accuracy: tuple[float, float],
    timing: Timing,
    predicted_ms: float,
) -> Verified:
    config = subnet or project.space.largest
    total = costs(project.graph, project.space, config)
    return Verified(
        config=config,
        top1_fp32_percent=accuracy[0],
        top1_int8_percent=accuracy[1],
        latency_ms=timing.time_ms,
        latency_p10_ms=timing.p10_ms,
        latency_p90_ms=timing.p90_ms,
        predicted_latency_ms=predicted_ms,
        macs=total.macs,
        parameters=total.parameters,
    )
