"""`bnas verify`: the exported files on the held-out test images, timed in one interleaved run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from bnas import progress
from bnas.commands.evaluation import answers
from bnas.commands.extract import load_subnet, resolution
from bnas.commands.project import Made, Project
from bnas.commands.quantize import absolute, subnet_names
from bnas.export import Artefact, check_digest
from bnas.files import read_json, write_json
from bnas.measure import Hardware, Timing, detect, prepare, throughput_per_s, time_interleaved
from bnas.measure.hardware import pinned
from bnas.space import resized
from bnas.train import TASKS, evaluate_details

THROUGHPUT_SECONDS = 1.5


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """One exported network on this machine: the task's metric on the test images, batch-1 latency and throughput.

    `details`: what else the task tells of it, by name, as a detector's precision by the size of objects.
    """

    metric_percent: float
    timing: Timing
    throughput_per_s: float
    size_bytes: int
    details: dict[str, float] = field(default_factory=dict, metadata={"plain": "unless default"})


@dataclass(frozen=True, kw_only=True)
class Verification:
    """`verified.json`: every exported network, by subnet and precision."""

    networks: dict[str, dict[str, Deployed]]
    hardware: Hardware


def verify(project: Project) -> Made:
    """Measure what will be deployed, as it will be deployed. INT8 and FP32 run in turn, one block each."""
    config, data, task = project.config, project.data, TASKS[project.config.train.task]
    artefacts = read_json(project.folder.path("subnets", "artefacts.json"), dict[str, dict[str, Artefact]])
    names = subnet_names(project)
    modules = {name: load_subnet(project, name) for name in names}
    runners, metric, details, throughput = {}, {}, {}, {}
    todo = [(name, kind) for name in names for kind in ("int8", "fp32")]
    with progress.bar("verify", total=2 * len(todo) + 1) as step:
        for key in todo:
            artefact = absolute(project, artefacts[key[0]][key[1]])
            check_digest(artefact)
            hw = replace(config.hw, precision="int8" if key[1] == "int8" else "f32")
            runners["/".join(key)] = runner = prepare(Path(artefact.path), hw)
            size = resolution(project, key[0])
            answered = answers(runner, modules[key[0]], resized(project.example, size))
            found = dict(evaluate_details(answered, data.test, task=task.name, resolution=size))
            metric[key], details[key] = found.pop(task.metric_name), found
            step(note=f"{key[0]} {key[1]} {task.label} {metric[key]:.2f} %")
        with pinned(config.hw):
            timings = time_interleaved(runners, config.measure)
        step()
        for key in todo:
            artefact = absolute(project, artefacts[key[0]][key[1]])
            hw = replace(config.hw, precision="int8" if key[1] == "int8" else "f32")
            throughput[key] = throughput_per_s(Path(artefact.path), hw, THROUGHPUT_SECONDS)
            step(note=f"{key[0]} {key[1]} {throughput[key]:.0f} images/s")
    networks = {
        name: {
            kind: Deployed(
                metric_percent=metric[name, kind],
                details=details[name, kind],
                timing=timings[f"{name}/{kind}"],
                throughput_per_s=throughput[name, kind],
                size_bytes=artefacts[name][kind].size_bytes,
            )
            for kind in ("int8", "fp32")
        }
        for name in names
    }
    result = Verification(networks=networks, hardware=detect(config.hw))
    write_json(project.folder.path("verified.json"), result)
    return Made(
        paths=("verified.json",),
        line=f"{len(todo)} networks on {len(data.test)} test images, timed in turn → "
        f"{project.folder.path('verified.json')}",
    )
