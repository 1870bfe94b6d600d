"""`bnas extract`: the chosen subnets as plain modules; and `bnas.extract_subnet` for notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from bnas import progress, supernet
from bnas.commands.project import Made, Project, open_run
from bnas.commands.search import Decision
from bnas.errors import RunError, did_you_mean
from bnas.files import read_json, write_json
from bnas.space import SubnetConfig
from bnas.supernet import Supernet
from bnas.train import recalibrate, recalibration_batches

REFERENCE = "reference"  # the folder of the original network, which goes the same way as the subnets


@dataclass(frozen=True, kw_only=True)
class SubnetFile:
    """`subnets/<name>/subnet.json`; `config` is null for the original network."""

    name: str
    config: SubnetConfig | None


def extract(project: Project) -> Made:
    """Write config and recalibrated weights of each chosen subnet, and of the original network."""
    decision = read_json(project.folder.path("search", project.hw_folder, "front.json"), Decision)
    trained = project.supernet(trained=True)
    calibration = recalibration_batches(
        project.data.train, project.config.train.recalibrate_images, seed=project.config.seed
    )
    made: list[str] = []
    chosen: dict[str, SubnetConfig | None] = {REFERENCE: None, **decision.chosen}
    with progress.bar("extract", total=len(chosen)) as step:
        for name, config in chosen.items():
            if config is None:
                module = project.original()
            else:
                module = supernet.extract_subnet(trained, config)
                recalibrate(module, calibration)
            made += (f"subnets/{name}/weights.safetensors", f"subnets/{name}/subnet.json")
            project.write_weights(module, made[-2])
            write_json(project.folder.path(made[-1]), SubnetFile(name=name, config=config))
            step(note=name)
    return Made(
        paths=tuple(made),
        line=f"{', '.join(decision.chosen)} and the original network as plain modules → "
        f"{project.folder.path('subnets')}",
    )


def load_subnet(project: Project, name: str) -> nn.Module:
    """The subnet called `name` ("A"), or the original network ("reference"), with its weights, in eval mode.

    Raises:
        RunError: the run has no such subnet; says which there are, or which command makes them.
    """
    project.folder.require("extract")
    known = [path.parent.name for path in project.folder.path("subnets").glob("*/subnet.json")]
    if name not in known:
        raise RunError(f"{project.folder} has no subnet '{name}'{did_you_mean(name, known)}")
    file = read_json(project.folder.path("subnets", name, "subnet.json"), SubnetFile)
    if file.config is None:
        module, _ = project.fresh_model()
    else:
        module = supernet.extract_subnet(project.supernet(trained=False), file.config)
    return project.read_weights(module, f"subnets/{name}/weights.safetensors", "extract")


def extract_subnet(source: Supernet | str | Path, config: SubnetConfig | str) -> nn.Module:
    """A subnet as a plain `nn.Module` in eval mode that knows nothing of bnas.

    Args:
        source: a super-network, or the folder of a run (`"runs/quickstart"`).
        config: what to take out: a config of the super-network's space, or the name of one of the run's
            subnets (`"A"`; `"reference"` is the original network), whose batch norms are recalibrated.

    Raises:
        SpaceError: the config does not belong to the space.
        RunError: there is no such run, or no such subnet in it.
    """
    if isinstance(source, Supernet):
        if not isinstance(config, SubnetConfig):
            raise RunError(f"a super-network has no subnet by name ('{config}'); give a SubnetConfig")
        return supernet.extract_subnet(source, config)
    project = open_run(source)
    if isinstance(config, SubnetConfig):
        project.folder.require("train")
        return supernet.extract_subnet(project.supernet(trained=True), config)
    return load_subnet(project, config)
