"""The values that a search's objectives and constraints name, and how those are known that need no evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from bnas.commands.project import Project, check_can_be_reported
from bnas.commands.transfer_source import MEASUREMENTS
from bnas.errors import ConfigError, MeasureError, did_you_mean
from bnas.export.artefact import digest_of
from bnas.files import read_json, read_jsonl
from bnas.measure import LatencyModel, Measurement, predict_ms
from bnas.measure.quantities import QUANTITIES, QuantityModel, fit_quantity, predict_quantity
from bnas.plain import digest
from bnas.search import OBJECTIVES, SEARCHES, Objective, SearchConfig, objective, parse_constraints
from bnas.search.objectives import check_objectives
from bnas.space import SubnetConfig, layer_costs, layers_of, parameters_of
from bnas.train.task import TASKS, Task

TIMED = ("latency_ms", "throughput_per_s")  # what a latency predictor tells
ANYWHERE = ("macs", "parameters")  # facts, the same on any hardware
TAKE_A_PREFERENCE = ("rnsga2",)


def objectives_of(config: SearchConfig) -> tuple[Objective, ...]:
    """The objectives that the options name.

    Raises:
        ConfigError: there is no such objective, or fewer than two of them.
    """
    return check_objectives([objective(name) for name in config.objectives])


def base_of(name: str) -> str:
    """`latency_ms` of `latency_ms@cpu_throughput`."""
    return name.partition("@")[0]


def hardware_of(name: str, project: Project) -> str:
    """`cpu_throughput` of `latency_ms@cpu_throughput`; of a name without hardware the run's own."""
    return name.partition("@")[2] or project.hw_folder


def check_search(project: Project) -> None:
    """Raise ConfigError for options that do not fit each other or the run, before anything slow is done."""
    check_can_be_reported(project.config.hw)
    config, task = project.config.search, TASKS[project.config.train.task]
    metric, metrics = task.metric_name, {own.metric_name for own in TASKS.values()}
    known = [metric, *(name for name in OBJECTIVES if name not in metrics)]
    for option, names in (
        ("objectives", config.objectives), ("constraints", config.constraints), ("preference", config.preference),
    ):  # fmt: skip
        for name in names:
            _check_metric(f"search.{option}", name, task)
            _check_name(f"search.{option}", name, known, metric, project)
    if config.screen < 1 and not task.counts_images:
        raise ConfigError(
            f"search.screen: how far {metric} of {config.screen:g} of the images may be from that of all is not known; "
            f"expected 1 with train.task={task.name}, got {config.screen:g}"
        )
    objectives_of(config)
    try:
        parse_constraints(config.constraints)
    except ConfigError as error:
        raise ConfigError(f"search.{error}") from error
    if config.algorithm not in SEARCHES:
        raise ConfigError(
            f"search.algorithm: no search '{config.algorithm}'{did_you_mean(config.algorithm, SEARCHES)}"
        )
    if config.population > config.evaluations:
        raise ConfigError(
            f"search.population: expected at most search.evaluations ({config.evaluations}), got {config.population}"
        )
    if config.preference and config.algorithm not in TAKE_A_PREFERENCE:
        raise ConfigError(
            f"search.preference: only search={TAKE_A_PREFERENCE[0]} searches near a point, got "
            f"search.algorithm={config.algorithm}"
        )
    for name in config.preference:
        if name not in config.objectives:
            raise ConfigError(f"search.preference: {name} is not among search.objectives")
    missing = [name for name in config.objectives if name not in config.preference]
    if missing and config.algorithm in TAKE_A_PREFERENCE:
        raise ConfigError(
            f"search.preference: {config.algorithm} searches near a point, a value for each objective; none given for "
            f"{', '.join(missing)}, as in search.preference.{missing[0]}=NUMBER"
        )


def _check_metric(option: str, name: str, task: Task) -> None:
    others = [own.name for own in TASKS.values() if own.metric_name == base_of(name) != task.metric_name]
    if others:
        raise ConfigError(
            f"{option}: {base_of(name)} is of {' and '.join(others)}, this run's task is {task.name} (train.task): "
            f"write {task.metric_name}"
        )


def _check_name(option: str, name: str, known: list[str], metric: str, project: Project) -> None:
    base, _, hw = name.partition("@")
    if base not in known:
        raise ConfigError(f"{option}: no value '{base}'{did_you_mean(base, known)}")
    if hw and base in (metric, *ANYWHERE):
        raise ConfigError(f"{option}: {base} is the same on any hardware; write {base}, got '{name}'")
    if hw and hw != project.hw_folder:
        _check_measured(option, name, hw, project)
    asked = project.config.measure.memory or _is_measured(project, hardware_of(name, project))
    if base == "memory_bytes" and not asked:
        raise ConfigError(
            f"{option}: memory_bytes is read only where measure.memory=true asks for it; add that"
        )
    own = project.config.hw
    if base == "throughput_per_s" and hw in ("", project.hw_folder) and own.scenario != "throughput":
        raise ConfigError(
            f"{option}: {project.hw_folder} times one inference at a time; name hardware with scenario=throughput, as "
            f"in throughput_per_s@cpu_throughput (measured by: python -m bnas measure --hw cpu_throughput)"
        )


def further_hardware(project: Project) -> dict[str, str]:
    """The hardware besides the run's own that the search's values are on, each with the digest of its predictor."""
    config, found = project.config.search, {}
    for name in (*config.objectives, *config.constraints):
        if (hw := hardware_of(name, project)) != project.hw_folder and _is_measured(project, hw):
            found[hw] = digest_of(project.folder.path("latency", hw, "model.json").read_bytes())
    return found


def _is_measured(project: Project, hw: str) -> bool:
    return project.folder.path("latency", hw, "model.json").exists()


def _check_measured(option: str, name: str, hw: str, project: Project) -> None:
    if _is_measured(project, hw):
        return
    there = sorted(path.parent.name for path in project.folder.path("latency").glob("*/model.json"))
    raise ConfigError(
        f"{option}: {name}: '{hw}' was not measured in this run (measured: {', '.join(there) or 'nothing yet'}); "
        f"first: python -m bnas measure --hw {hw}"
    )


class Foreknown:
    """Values of a subnet, by name, without an evaluation: facts about its layers, and what predictors make of them.

    They are `macs`, `parameters`, the `latency_ms` of the run's hardware, and all that objectives and constraints name,
    but for the metric. `latency`: the latency model of each hardware; `quantities`: the other predictors, by name.

    Raises:
        ConfigError: a value that the campaign did not read, or hardware that was measured otherwise.
    """

    def __init__(self, project: Project) -> None:
        config, metric = project.config.search, TASKS[project.config.train.task].metric_name
        wanted = dict.fromkeys(("latency_ms", *config.objectives, *config.constraints))
        self._project = project
        self._layers = layers_of(project.graph, project.space)
        self._parameters = parameters_of(project.graph, project.space)
        self.predicted = tuple(name for name in wanted if base_of(name) not in (metric, *ANYWHERE))
        self.latency: dict[str, LatencyModel] = {}
        self.quantities: dict[str, QuantityModel] = {}
        for name in self.predicted:
            hw = hardware_of(name, project)
            if base_of(name) in TIMED:
                self.latency.setdefault(hw, _latency_model(project, name, hw))
            elif base_of(name) in QUANTITIES:
                self.quantities[name] = _quantity_model(project, name, hw)

    def __call__(self, config: SubnetConfig, *, speed: Mapping[str, float] | None = None) -> dict[str, float]:
        """The values; times are multiplied by `speed`, by hardware, where it says how slow the machine is now."""
        layers = self._layers(config)
        ms = {
            hw: (speed or {}).get(hw, 1.0) * predict_ms(model, layers) for hw, model in self.latency.items()
        }
        values: dict[str, float] = {
            "macs": sum(layer.macs for layer in layers),
            "parameters": self._parameters(config),
        }
        for name in self.predicted:
            hw = hardware_of(name, self._project)
            if name in self.quantities:
                values[name] = predict_quantity(self.quantities[name], layers)
            elif base_of(name) == "latency_ms":
                values[name] = ms[hw]
            else:
                values[name] = per_second(ms[hw], self.latency[hw].batch)
        return values

    @property
    def digest(self) -> str:
        """Changes with any predictor."""
        return digest({"latency": self.latency, "quantities": self.quantities})

    def notes(self) -> tuple[str, ...]:
        """How good the predictors of other quantities than time are, in words."""
        return tuple(
            f"{name} is predicted ({model.kind}) to {model.figures.mape_percent:.1f} % on {model.figures.count} "
            f"subnets that were {model.judged_on}"
            for name, model in self.quantities.items()
        )


def per_second(time_ms: float, batch: int) -> float:
    """Images per second where an inference of `batch` images is completed every `time_ms`."""
    return 1000 * batch / time_ms


def _latency_model(project: Project, name: str, hw: str) -> LatencyModel:
    _check_measured("search", name, hw, project)
    _lines(project, name, hw)
    model = read_json(project.folder.path("latency", hw, "model.json"), LatencyModel)
    if base_of(name) == "throughput_per_s" and model.scenario != "throughput":
        raise ConfigError(
            f"search: {name}: {hw} was timed one inference at a time; throughput is that of hardware with "
            "scenario=throughput, as in throughput_per_s@cpu_throughput"
        )
    return model


def _quantity_model(project: Project, name: str, hw: str) -> QuantityModel:
    _check_measured("search", name, hw, project)
    lines, base = _lines(project, name, hw), base_of(name)
    if all(getattr(line, base) is None for line in lines):
        how = {
            "memory_bytes": f"read it with: python -m bnas measure measure.memory=true --force --hw {hw}",
            "energy_mj": "that machine does not tell it, or not to every user",
        }[base]
        raise ConfigError(f"search: {name} was not read in the campaign on {hw}; {how}")
    try:
        return fit_quantity(lines, partial(layer_costs, project.graph, project.space), base)
    except MeasureError as error:
        raise ConfigError(f"search: {error}") from error


def _lines(project: Project, name: str, hw: str) -> list[Measurement]:
    """The measurements of the last campaign on `hw`: those that were made as the last one was."""
    lines = read_jsonl(project.folder.path("latency", hw, MEASUREMENTS), Measurement)
    if not lines or lines[-1].space != project.space.digest:
        raise ConfigError(
            f"search: {name}: {hw} was measured on another search space; first: python -m bnas measure --hw {hw}"
        )
    return [line for line in lines if _conditions(line) == _conditions(lines[-1])]


def _conditions(line: Measurement) -> tuple[Any, ...]:
    hardware = line.hardware
    return (
        line.space, line.precision, line.scenario, line.batch, line.threads, line.streams,
        hardware.cpu, hardware.runtime, hardware.runtime_version,
    )  # fmt: skip
