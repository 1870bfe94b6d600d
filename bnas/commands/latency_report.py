"""A latency campaign as the report draws it, from its measurements and the model that was fitted to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from bnas.commands.project import Project
from bnas.errors import MissingPackageError
from bnas.files import read_json, write_json
from bnas.measure import LatencyModel, Measurement
from bnas.measure.latency import Figures, Prediction, learning_curve, left_out, predict_many
from bnas.measure.predictors import BASELINES, PREDICTORS
from bnas.plain import to_plain
from bnas.report import (
    LatencyReport,
    PredictorError,
    TimedSubnet,
    print_latency,
    write_latency,
    write_latency_curves,
)
from bnas.space import LayerCost, SubnetConfig, costs, layer_costs

FILE = "latency.json"
SIZES = (10, 30, 100, 300)  # of the learning curves, and all there are
Refit = Callable[[Sequence[Measurement]], LatencyModel]


def write_campaign(
    project: Project, measurements: Sequence[Measurement], model: LatencyModel, refit: Refit
) -> LatencyReport:
    """Write latency/<hw>/latency.json, and the curves for TensorBoard; returns what they tell. See `latency_report`."""
    report = latency_report(project, measurements, model, refit)
    write_json(project.folder.path("latency", project.hw_folder, FILE), report)
    write_latency_curves(report, project.folder.path("tensorboard", "latency", project.hw_folder))
    return report


def read_campaign(project: Project) -> LatencyReport:
    """What `write_campaign` wrote.

    Raises:
        RunError: nothing was measured on this hardware yet, or the file is damaged.
    """
    if not project.folder.done(f"measure@{project.hw_folder}"):
        project.folder.require("measure")
    return read_json(project.folder.path("latency", project.hw_folder, FILE), LatencyReport)


def show_campaign(project: Project) -> None:
    """Print it, and write it as a page, too, where plotly is installed."""
    report = read_campaign(project)
    print_latency(report)
    try:
        path = write_latency(report, project.folder.path("latency", project.hw_folder))
        print(f"every subnet, and the plots → {path}")
    except MissingPackageError as error:
        print(f"no page of it was written: {error}")


def latency_report(
    project: Project, measurements: Sequence[Measurement], model: LatencyModel, refit: Refit
) -> LatencyReport:
    """The campaign of `measurements`; every prediction in it is of a model that was fitted without the subnet.

    refit: makes a model of some measurements as `model` was made of all of them; asked where that was carried over from
    other hardware, of which only the held-out subnets are predicted.

    Raises:
        MeasureError: too few measurements to fit a predictor to.
    """
    layers = _Layers(project)
    predicted: dict[SubnetConfig, Prediction] = {}
    curves: Mapping[str, tuple[Figures, ...]] = {}
    if model.kind in PREDICTORS:
        predicted = _by_config(measurements, left_out(model, measurements, layers))
        count = sum(line.role == "fit" for line in measurements)
        sizes = [*(size for size in SIZES if size < count), count]
        curves = learning_curve(measurements, layers, samples=sizes, kinds=(model.kind, *BASELINES))
    elif held_out := [
        line for line in measurements if line.role == "held_out"
    ]:  # carried over from other hardware
        without = refit([line for line in measurements if line.role == "fit"])
        predicted = _by_config(held_out, predict_many(without, [layers(line.config) for line in held_out]))
    by_macs = _by_config(measurements, left_out(model, measurements, layers, kind="macs_line"))
    return LatencyReport(
        run=project.config.name,
        hw=project.hw_folder,
        scenario="throughput" if model.scenario == "throughput" else "latency",
        kind=model.kind,
        reference_ms=model.reference_ms,
        subnets=tuple(
            _timed(project, line, model.reference_ms, predicted.get(line.config), by_macs.get(line.config))
            for line in sorted(measurements, key=lambda line: line.began)
        ),
        kinds=_errors(model.cross_validated, model.kind),
        held_out=_errors(model.held_out, model.kind),
        learning=tuple(
            _error(kind, figures) for kind, by_samples in curves.items() for figures in by_samples
        ),
        coverage_percent=model.coverage_percent,
        hardware=to_plain(model.hardware),
        protocol={"hw": to_plain(project.config.hw), **to_plain(project.config.measure)},
    )


class _Layers:
    """The layers of a subnet, computed once for each."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._known: dict[SubnetConfig, Sequence[LayerCost]] = {}

    def __call__(self, subnet: SubnetConfig) -> Sequence[LayerCost]:
        if subnet not in self._known:
            self._known[subnet] = layer_costs(self._project.graph, self._project.space, subnet)
        return self._known[subnet]


def _by_config(
    lines: Sequence[Measurement], predictions: Sequence[Prediction]
) -> dict[SubnetConfig, Prediction]:
    return dict(zip((line.config for line in lines), predictions, strict=True))


def _timed(
    project: Project,
    line: Measurement,
    reference_ms: float,
    predicted: Prediction | None,
    by_macs: Prediction | None,
) -> TimedSubnet:
    return TimedSubnet(
        config_digest=line.config.digest,
        role=line.role,
        macs=costs(project.graph, project.space, line.config).macs,
        measured_ms=line.ratio * reference_ms,
        error_percent=line.ratio_error_percent,
        reference_ms=line.reference_ms,
        began=line.began,
        seconds=line.seconds,
        rounds=line.rounds,
        disturbed=line.disturbed,
        converged=line.converged,
        predicted_ms=None if predicted is None else predicted.ms,
        low_ms=None if predicted is None else predicted.low_ms,
        high_ms=None if predicted is None else predicted.high_ms,
        macs_line_ms=None if by_macs is None else by_macs.ms,
        size_bytes=line.size_bytes,
        memory_bytes=line.memory_bytes,
        energy_mj=line.energy_mj,
    )


def _errors(figures: Mapping[str, Figures], kept: str) -> tuple[PredictorError, ...]:
    """The kept kind first, then from the least error to the largest."""
    ordered = sorted(figures, key=lambda kind: (kind != kept, figures[kind].mape_percent))
    return tuple(_error(kind, figures[kind]) for kind in ordered)


def _error(kind: str, figures: Figures) -> PredictorError:
    told = asdict(figures)
    del told["count"]
    return PredictorError(kind=kind, **told)
