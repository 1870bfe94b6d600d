"""`bnas measure`: time sample subnets on a machine and fit the latency predictor.

`bnas measure --check` tells how noisy this machine is; `bnas measure worker` lends it to another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import median

from torch import Tensor

from bnas import supernet
from bnas.commands import stages
from bnas.commands.followers import follows
from bnas.commands.invocation import Invocation
from bnas.commands.latency_report import FILE as CAMPAIGN
from bnas.commands.latency_report import write_campaign
from bnas.commands.project import Made, Project, hw_options
from bnas.commands.transfer_source import MEASUREMENTS, transfer_source
from bnas.errors import ConfigError, did_you_mean
from bnas.files import write_json
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
from bnas.space import LayerCost, SubnetConfig, layer_costs, precisions_of


def command(invocation: Invocation) -> None:
    """`measure`, `measure --check` or `measure worker`."""
    match invocation.arguments:
        case () if not invocation.check:
            stages.command(invocation)
        case () if invocation.listen is not None:
            raise ConfigError("--listen: goes with `measure worker`, not with `measure --check`")
        case ():
            if not follows():
                print_check(check(*hw_options(invocation)))
        case ("worker",):
            _refuse_for_worker(invocation)
            if not follows():
                serve(invocation.listen)
        case ("worker", word, *_):
            raise ConfigError(f"measure worker: no other word expected, got '{word}'")
        case (word, *_):
            raise ConfigError(f"measure: no such word '{word}'{did_you_mean(word, ('worker',))}")


def _refuse_for_worker(invocation: Invocation) -> None:
    """A worker does what each campaign asks it for: options of a run say nothing to it."""
    given = {"--check": invocation.check, f"--hw {invocation.hw}": invocation.hw, "--force": invocation.force}
    words = [word for word, asked in given.items() if asked]
    words += [f"conf={invocation.conf}"] if invocation.conf else []
    for word in (*words, *invocation.overrides):
        raise ConfigError(
            f"measure worker: takes --listen alone, got {word}; what to time, and how, is said where the "
            "campaign runs"
        )


def measure(project: Project) -> Made:
    """Append measurements to latency/<hw>/measurements.jsonl and fit latency/<hw>/model.json to them.

    What is timed is the deployed form: extracted, quantized, compiled by the runtime that will serve it.
    Weights do not matter for that, so this needs no training.
    """
    config = project.config
    place = ("latency", project.hw_folder)
    source = transfer_source(project)
    elastic = project.supernet(trained=False)
    measurements = campaign(
        project.space,
        lambda subnet: supernet.extract_subnet(elastic, subnet),
        config.hw,
        config.measure,
        costs=partial(_costs, project),
        quantizer=config.quantize,
        example=project.example,
        path=project.folder.path(*place, MEASUREMENTS),
        seed=config.seed,
        connect=_connect(project),
        precisions=partial(precisions_of, project.graph, project.space),
    )
    refuse_if_noisy(measurements, config.measure.max_ratio_error_percent)
    fit = partial(_fitted, project, source)
    model = fit(measurements)
    write_json(project.folder.path(*place, "model.json"), model)
    write_campaign(project, measurements, model, fit)
    figures, line = model.figures, model.macs_line
    carried_over = f", carried over from {config.measure.transfer_from}" if model.base else ""
    tau = f", Kendall tau {figures.kendall_tau:.2f}" if figures.count > 1 else ""
    error = median(own.ratio_error_percent for own in measurements)
    on = "held-out ones" if model.held_out else "those left out in turn"
    return Made(
        paths=tuple("/".join((*place, name)) for name in (MEASUREMENTS, "model.json", CAMPAIGN)),
        line=f"{len(measurements)} subnets timed on {config.hw.name}; predictor ({model.kind}{carried_over}) off by "
        f"{figures.mape_percent:.1f} % on {on} (a line through MACs: {line.mape_percent:.1f} %){tau}, "
        f"measured to ±{error:.1f} % → {project.folder.path(*place, 'model.json')}",
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


def _fitted(
    project: Project, source: LatencyModel | None, measurements: Sequence[Measurement]
) -> LatencyModel:
    """A predictor of these measurements, carried over from that of other hardware where there is a `source`."""
    if source is None:
        return fit_latency(measurements, partial(_costs, project))
    return transfer(source, measurements, partial(_costs, project))
