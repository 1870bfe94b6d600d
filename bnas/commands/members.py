"""Measuring members of a front as they would be deployed: accuracies, latency, and what else the search was about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from bnas import progress
from bnas.commands.evaluation import Evaluation, answers
from bnas.commands.objectives import Foreknown, base_of, hardware_of, per_second
from bnas.commands.project import Project
from bnas.errors import BnasError, MeasureError
from bnas.files import read_json
from bnas.measure import (
    BACKENDS,
    Here,
    HwConfig,
    LatencyModel,
    Runner,
    Timed,
    Timing,
    detect,
    prepare,
    time_interleaved,
)
from bnas.measure.backends import Network, deploy_mixed
from bnas.measure.campaign import reference_of
from bnas.measure.energy import energy_of
from bnas.measure.fingerprint import fingerprint
from bnas.measure.hardware import pinned
from bnas.measure.memory import MemoryGauge
from bnas.plain import from_plain
from bnas.quantize import quantize
from bnas.quantize.in_openvino import for_openvino
from bnas.report import LatencyReport
from bnas.space import SubnetConfig, architecture, has_precisions, precisions_of, resized, resolution_of
from bnas.supernet import extract_subnet
from bnas.train import TASKS, evaluate, recalibrate

REFERENCE = "reference"  # the original network, which is measured beside the members
MIDDLE = "middle"  # of the space: the reference of the latency campaign

Step = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Member:
    """What was measured of one network; `config` None: the original one.

    `timing` is on the run's hardware; `measured` all values by name but the metric; `speed`: by hardware, how long the
    campaign's reference took now, as a multiple of what it took in the campaign.
    """

    config: SubnetConfig | None
    fp32_percent: float
    int8_percent: float
    timing: Timing
    measured: dict[str, float] = field(default_factory=dict)
    speed: dict[str, float] = field(default_factory=dict)


def measured_members(
    project: Project,
    evaluation: Evaluation,
    members: Mapping[str, SubnetConfig],
    names: Sequence[str],
    foreknown: Foreknown,
) -> tuple[dict[str, Member], tuple[str, ...]]:
    """The original network as `reference` and the members, by name, measured; and what could not be, in sentences.

    Accuracies are on all validation images. On the run's hardware all networks are timed in one interleaved run; on
    further hardware that `names` ask for each in turn with the campaign's reference, as the campaign did it.
    """
    networks: dict[str, SubnetConfig | None] = {REFERENCE: None, **members}
    elsewhere: dict[str, list[str]] = {}
    for name in names:
        if (hw := hardware_of(name, project)) != project.hw_folder:
            elsewhere.setdefault(hw, []).append(name)
    notes = []
    total = len(networks) * (1 + len(elsewhere)) + 1
    with progress.bar("verify the front", total=total) as step:
        found = _here(project, evaluation, networks, names, foreknown.latency[project.hw_folder], step)
        for hw, own in elsewhere.items():
            try:
                config = config_of(project, hw)
                for name, timed in _timed(project, evaluation, config, networks, own, step):
                    model = foreknown.latency.get(hw)
                    found[name].measured.update(_told(timed, config.batch, own))
                    if model is not None:
                        found[name].speed[hw] = timed.reference.time_ms / model.reference_ms
            except BnasError as error:
                notes.append(f"{', '.join(own)}: not measured again: {error}.")
    return found, tuple(notes)


def _here(
    project: Project,
    evaluation: Evaluation,
    networks: Mapping[str, SubnetConfig | None],
    names: Sequence[str],
    latency: LatencyModel,
    step: Step,
) -> dict[str, Member]:
    """Accuracies, and what is asked for on the run's own hardware."""
    hw, data, task = project.config.hw, project.data, TASKS[project.config.train.task]
    runners: dict[str, Runner] = {}
    accuracies: dict[str, tuple[float, float]] = {}
    deployed: dict[str, Network] = {}
    for name, subnet in networks.items():
        module, size = _module(project, evaluation, subnet), resolution_of(subnet)
        if subnet is not None:
            recalibrate(module, evaluation.calibration, resolution=size)
        example = resized(project.example, size)
        images = (resized(image, size) for image in evaluation.quantization_images)
        precisions = {} if subnet is None else precisions_of(project.graph, project.space, subnet)
        deployed[name] = quantize(
            module, for_openvino(project.config.quantize), images, example, precisions=precisions
        )
        runners[name] = runner = prepare(deployed[name], hw, example)
        answered = answers(runner, module, example)
        accuracies[name] = (
            evaluate(module.to(memory_format=torch.channels_last), data.val, task=task.name, resolution=size),
            evaluate(answered, data.val, task=task.name, resolution=size),
        )
        step(note=f"INT8 {task.label} {accuracies[name][1]:.2f} %")
    runners[MIDDLE] = _middle(project, evaluation)
    with pinned(hw):
        timings = time_interleaved(runners, project.config.measure)
    step()
    # Predictions are of a moment when the campaign's reference took `reference_ms`; now it takes another time.
    speed = timings[MIDDLE].time_ms / latency.reference_ms
    wanted = {base_of(name): name for name in names if hardware_of(name, project) == project.hw_folder}
    found = {}
    with closing(_Others(hw, wanted)) as others:
        for name, subnet in networks.items():
            found[name] = Member(
                config=subnet,
                fp32_percent=accuracies[name][0],
                int8_percent=accuracies[name][1],
                timing=timings[name],
                measured=others.read(deployed[name], runners[name], timings[name]),
                speed={project.hw_folder: speed},
            )
    return found


class _Others:
    """Reads what is wanted of a network, by the base of its name, on the run's hardware."""

    def __init__(self, hw: HwConfig, wanted: Mapping[str, str]) -> None:
        self._hw, self._wanted = hw, wanted
        self._gauge = MemoryGauge(hw) if "memory_bytes" in wanted else None

    def read(self, network: Network, runner: Runner, timing: Timing) -> dict[str, float]:
        """The values by name, without those that cannot be read here."""
        found: dict[str, float | None] = {"latency_ms": timing.time_ms}
        if "throughput_per_s" in self._wanted:
            found["throughput_per_s"] = per_second(timing.time_ms, self._hw.batch)
        if "size_bytes" in self._wanted:
            found["size_bytes"] = fingerprint(network)[1]
        if "energy_mj" in self._wanted:
            with pinned(self._hw):
                found["energy_mj"] = energy_of(runner).mj
        if self._gauge is not None:
            found["memory_bytes"] = self._peak(self._gauge, network)
        return {
            self._wanted[base]: float(value)
            for base, value in found.items()
            if value is not None and base in self._wanted
        }

    def _peak(self, gauge: MemoryGauge, network: Network) -> int | None:
        save = BACKENDS[self._hw.backend].save
        if save is None:
            return None
        with TemporaryDirectory(prefix="bnas-memory-") as folder:
            return gauge.peak(save(network, Path(folder))).peak_bytes

    def close(self) -> None:
        if self._gauge is not None:
            self._gauge.close()


def config_of(project: Project, name: str) -> HwConfig:
    """The options with which further hardware was measured.

    Raises:
        MeasureError: that was elsewhere, or on another machine.
    """
    report = read_json(project.folder.path("latency", name, "latency.json"), LatencyReport)
    hw = from_plain(HwConfig, report.protocol["hw"], f"hw {name}")
    if hw.where != "here":
        raise MeasureError(f"{name} is not this machine (hw.where={hw.where})")
    before, now = report.hardware, detect(hw)
    if (before["cpu"], before["physical_cores"]) != (now.cpu, now.physical_cores):
        raise MeasureError(
            f"{name} was measured on another machine ({before['cpu']}, {before['physical_cores']} cores)"
        )
    return hw


def _timed(
    project: Project,
    evaluation: Evaluation,
    hw: HwConfig,
    networks: Mapping[str, SubnetConfig | None],
    names: Sequence[str],
    step: Step,
) -> Iterator[tuple[str, Timed]]:
    """Each network beside the campaign's reference on further hardware, deployed as the campaign did it."""
    made = _maker(project, evaluation, hw)
    memory = any(base_of(name) == "memory_bytes" for name in names)
    config, reference = replace(project.config.measure, memory=memory), made(reference_of(project.space))
    with closing(Here(hw, config, *reference)) as device:
        for key, (name, subnet) in enumerate(networks.items()):
            device.submit(key, *made(subnet))
            for _, timed in device.results():
                yield name, timed
                step(note=f"{hw.name} {timed.subnet.time_ms:.3f} ms")


def _told(timed: Timed, batch: int, names: Sequence[str]) -> dict[str, float]:
    """The values of `names` that a device told."""
    told: dict[str, float | None] = {
        "latency_ms": timed.subnet.time_ms,
        "throughput_per_s": per_second(timed.subnet.time_ms, batch),
        "size_bytes": timed.size_bytes,
        "memory_bytes": timed.memory_bytes,
        "energy_mj": timed.energy_mj,
    }
    values = {name: told[base_of(name)] for name in names}
    return {name: float(value) for name, value in values.items() if value is not None}


def _middle(project: Project, evaluation: Evaluation) -> Runner:
    """The reference of the latency campaign, made as it was there."""
    hw = project.config.hw
    network, example = _maker(project, evaluation, hw)(reference_of(project.space))
    return prepare(network, hw, example)


def _maker(
    project: Project, evaluation: Evaluation, hw: HwConfig
) -> Callable[[SubnetConfig | None], tuple[Network, Tensor]]:
    """What makes of a subnet the network that a campaign would time, and an example input of it."""
    quantizer = project.config.quantize
    mixed = deploy_mixed(hw, quantizer) if has_precisions(project.space) else None
    plain = BACKENDS[hw.backend].deploy(hw, quantizer)

    def made(subnet: SubnetConfig | None) -> tuple[Network, Tensor]:
        module = _module(project, evaluation, subnet)
        example = resized(project.example, resolution_of(subnet))
        if mixed is None:
            return plain(module, example), example
        config = subnet or project.original_config
        return mixed(module, example, precisions_of(project.graph, project.space, config)), example

    return made


def _module(project: Project, evaluation: Evaluation, subnet: SubnetConfig | None) -> nn.Module:
    if subnet is None:
        return project.original()
    return extract_subnet(evaluation.supernet, architecture(subnet))
