"""`bnas verify`: the exported files on the held-out test images, timed in one interleaved run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from bnas import progress
from bnas.commands.extract import resolution
from bnas.commands.project import Made, Project
from bnas.commands.quantize import absolute, subnet_names
from bnas.export import Artefact, check_digest
from bnas.files import read_json, write_json
from bnas.measure import Hardware, Timing, detect, prepare, throughput_per_s, time_interleaved
from bnas.measure.hardware import pinned
from bnas.train import evaluate

THROUGHPUT_SECONDS = 1.5


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """One exported network on this machine: test accuracy, batch-1 latency and throughput."""

    metric_percent: float
    timing: Timing
    throughput_per_s: float
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Verification:
    """`verified.json`: every exported network, by subnet and precision."""

    networks: dict[str, dict[str, Deployed]]
    hardware: Hardware


def verify(project: Project) -> Made:
    """Measure what will be deployed, as it will be deployed. INT8 and FP32 run in turn, one block each."""
    config, data = project.config, project.data
    artefacts = read_json(project.folder.path("subnets", "artefacts.json"), dict[str, dict[str, Artefact]])
    names = subnet_names(project)
    runners, accuracy, throughput = {}, {}, {}
    todo = [(name, kind) for name in names for kind in ("int8", "fp32")]
    with progress.bar("verify", total=2 * len(todo) + 1) as step:
        for key in todo:
            artefact = absolute(project, artefacts[key[0]][key[1]])
            check_digest(artefact)
            hw = replace(config.hw, precision="int8" if key[1] == "int8" else "f32")
            runners["/".join(key)] = runner = prepare(Path(artefact.path), hw)
            accuracy[key] = evaluate(runner.predict, data.test, resolution=resolution(project, key[0]))
            step(note=f"{key[0]} {key[1]} top-1 {accuracy[key]:.2f} %")
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
                metric_percent=accuracy[name, kind],
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
