"""`bnas measure`: time sample subnets on this machine and fit the latency predictor."""

from __future__ import annotations

from bnas import supernet
from bnas.commands.project import Made, Project
from bnas.files import write_json
from bnas.measure import campaign, fit_latency
from bnas.space import layer_costs


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
        quantizer=config.quantize,
        reference=supernet.extract_subnet(elastic, project.space.largest),
        example=project.example,
        path=project.folder.path(*place, "measurements.jsonl"),
        seed=config.seed,
    )
    model = fit_latency(
        measurements,
        lambda subnet: layer_costs(project.graph, project.space, subnet),
        holdout=config.measure.holdout,
    )
    write_json(project.folder.path(*place, "model.json"), model)
    return Made(
        paths=("/".join((*place, "measurements.jsonl")), "/".join((*place, "model.json"))),
        line=f"{len(measurements)} subnets timed on {config.hw.name}; predictor off by "
        f"{model.mape_percent:.1f} % on held-out ones (a line through MACs: {model.macs_line_mape_percent:.1f} %), "
        f"Kendall tau {model.kendall_tau:.2f} → {project.folder.path(*place, 'model.json')}",
    )
