"""`bnas measure`: time sample subnets on a machine and fit the latency predictor.

`bnas measure --check` tells how noisy this machine is; `bnas measure worker` lends it to another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from bnas import supernet
from bnas.commands import stages
from bnas.commands.invocation import Invocation
from bnas.commands.latency_report import FILE as CAMPAIGN
from bnas.commands.latency_report import write_campaign
from bnas.commands.project import Made, Project, hw_options
from bnas.errors import ConfigError
from bnas.files import read_json, write_json
from bnas.measure import (
    Device,
    Here,
    HwConfig,
    LatencyModel,
    MeasureConfig,
    Measurement,
    campaign,
    check,
    fit_latency,
    print_check,
    refuse_if_noisy,
    transfer,
)
from bnas.measure.backends import Network
from bnas.measure.campaign import Connect
from bnas.measure.remote import RayDevice, WorkerDevice, serve
from bnas.space import LayerCost, SubnetConfig, layer_costs


def command(invocation: Invocation) -> None:
    """`measure`, `measure --check` or `measure worker`."""
    match invocation.arguments:
        case ():
            if invocation.check:
                print_check(check(*hw_options(invocation)))
            else:
                stages.command(invocation)
        case ("worker",):
            serve(invocation.listen)
        case (word, *_):
            raise ConfigError(f"measure: no such word '{word}'; there is `measure` and `measure worker`")


def measure(project: Project) -> Made:
    """Append measurements to latency/<hw>/measurements.jsonl and fit latency/<hw>/model.json to them.

    What is timed is the deployed form: extracted, quantized, compiled by the runtime that will serve it.
    Weights do not matter for that, so this needs no training.
    """
    config = project.config
    place = ("latency", project.hw_folder)
    elastic = project.supernet(trained=False)
    measurements = campaign(
        project.space,
        lambda subnet: supernet.extract_subnet(elastic, subnet),
        config.hw,
        config.measure,
        costs=partial(_costs, project),
        quantizer=config.quantize,
        example=project.example,
        path=project.folder.path(*place, "measurements.jsonl"),
        seed=config.seed,
        connect=_connect(project),
    )
    refuse_if_noisy(measurements, config.measure.max_ratio_error_percent)
    model = _fitted(project, measurements)
    write_json(project.folder.path(*place, "model.json"), model)
    write_campaign(project, measurements, model, partial(_fitted, project))
    figures, line = model.figures, model.macs_line
    on = "held-out ones" if model.held_out else "those left out in turn"
    return Made(
        paths=tuple("/".join((*place, name)) for name in ("measurements.jsonl", "model.json", CAMPAIGN)),
        line=f"{len(measurements)} subnets timed on {config.hw.name}; predictor ({model.kind}) off by "
        f"{figures.mape_percent:.1f} % on {on} (a line through MACs: {line.mape_percent:.1f} %), "
        f"Kendall tau {figures.kendall_tau:.2f} → {project.folder.path(*place, 'model.json')}",
    )


def _costs(project: Project, subnet: SubnetConfig) -> Sequence[LayerCost]:
    return layer_costs(project.graph, project.space, subnet)


def _connect(project: Project) -> Connect:
    """What connects to the device that `hw.where` names."""

    def connect(hw: HwConfig, config: MeasureConfig, reference: Network, example: Tensor) -> Device:
        if hw.where == "ray":
            return RayDevice(hw, config, reference, example, ray=project.config.ray)
        return (WorkerDevice if hw.where == "worker" else Here)(hw, config, reference, example)

    return connect


def _fitted(project: Project, measurements: Sequence[Measurement]) -> LatencyModel:
    """A predictor of these measurements, carried over from other hardware where that is asked for."""
    source = project.config.measure.transfer_from
    if source is None:
        return fit_latency(measurements, partial(_costs, project))
    path = project.folder.path("latency", source, "model.json")
    if not path.exists():
        known = ", ".join(sorted(own.parent.name for own in path.parents[1].glob("*/model.json"))) or "none"
        raise ConfigError(f"measure.transfer_from: {source} has no predictor in this run; there is: {known}")
    return transfer(read_json(path, LatencyModel), measurements, partial(_costs, project))
