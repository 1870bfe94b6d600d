"""Where a latency predictor is carried over from: that of other hardware in the same run."""

from __future__ import annotations

from bnas.commands.project import Project
from bnas.errors import ConfigError, did_you_mean
from bnas.files import read_json, read_jsonl
from bnas.measure import LatencyModel, Measurement

MEASUREMENTS = "measurements.jsonl"  # in latency/<hw>/


def transfer_source(project: Project) -> LatencyModel | None:
    """The predictor of other hardware that `measure.transfer_from` names; None where it names none.

    Raises:
        ConfigError: the run has none of that name, or it is of another search space.
    """
    option, name = "measure.transfer_from", project.config.measure.transfer_from
    if name is None:
        return None
    if name == project.hw_folder:
        raise ConfigError(f"{option}: {name} is what is measured; name other hardware, or {option}=null")
    path = project.folder.path("latency", name, "model.json")
    if not path.exists():
        others = {own.parent.name for own in path.parents[1].glob("*/model.json")} - {project.hw_folder}
        known = did_you_mean(name, others) or f"; first: python -m bnas measure --hw {name}"
        raise ConfigError(f"{option}: {name} has no predictor in this run{known}")
    *_, last = read_jsonl(path.with_name(MEASUREMENTS), Measurement)
    if last.space != project.space.digest:
        raise ConfigError(
            f"{option}: {name} was measured on another search space; first: python -m bnas measure --hw {name}"
        )
    return read_json(path, LatencyModel)
