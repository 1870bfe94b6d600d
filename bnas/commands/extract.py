"""`bnas extract`: the chosen subnets as plain modules; `bnas.extract_subnet` and `bnas.rebuild` for notebooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model as fill
from torch import nn

from bnas import progress, supernet
from bnas.commands.decision import Decision
from bnas.commands.project import Made, Project, import_plugins, open_run
from bnas.errors import RunError, did_you_mean
from bnas.files import read_json, write_json
from bnas.models import ModelConfig, load_model
from bnas.space import SubnetConfig, architecture, resolution_of
from bnas.supernet import Reshaping, Supernet, reshape, reshaping
from bnas.train import recalibrate, recalibration_batches

REFERENCE = "reference"  # the folder of the original network, which goes the same way as the subnets
FINETUNED = "finetuned.safetensors"  # beside weights.safetensors, where `finetune` found better ones


@dataclass(frozen=True, kw_only=True)
class SubnetFile:
    """`subnets/<name>/subnet.json`; `config` is null for the original network.

    `model` makes the original network, after `plugins` are imported; `reshaping` tells what makes the subnet
    of it, besides the shapes of the tensors in weights.safetensors.
    """

    name: str
    config: SubnetConfig | None
    model: ModelConfig | None = None
    reshaping: Reshaping = field(default_factory=Reshaping)
    plugins: tuple[str, ...] = ()


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
                module = supernet.extract_subnet(trained, architecture(config))
                recalibrate(module, calibration, resolution=resolution_of(config))
            made += (f"subnets/{name}/weights.safetensors", f"subnets/{name}/subnet.json")
            project.write_weights(module, made[-2])
            write_json(project.folder.path(made[-1]), _file(project, trained, name, config))
            step(note=name)
    return Made(
        paths=tuple(made),
        line=f"{', '.join(decision.chosen)} and the original network as plain modules → "
        f"{project.folder.path('subnets')}",
    )


def resolution(project: Project, name: str) -> int | None:
    """The size in pixels of the images that the subnet called `name` takes; None: as they are."""
    path = project.folder.path("subnets", name, "subnet.json")
    return resolution_of(read_json(path, SubnetFile).config)


def load_subnet(project: Project, name: str) -> nn.Module:
    """The subnet called `name` ("A"), or the original network ("reference"), with its weights, in eval mode.

    Raises:
        RunError: the run has no such subnet; says which there are, or which command makes them.
    """
    project.folder.require("extract")
    known = [path.parent.name for path in project.folder.path("subnets").glob("*/subnet.json")]
    if name not in known:
        raise RunError(f"{project.folder} has no subnet '{name}'{did_you_mean(name, known)}")
    return rebuild(project.folder.path("subnets", name))


def rebuild(folder: Path | str, *, tuned: bool = True) -> nn.Module:
    """The subnet in a folder that `extract` wrote ("runs/quickstart/subnets/A"), a plain module in eval mode.

    The folder may have been moved: its files subnet.json and weights.safetensors (and finetuned.safetensors,
    where `finetune` wrote it) are all that is needed, besides the Python of the network itself. The network is
    made afresh, cut to shape and filled, with the fine-tuned weights where there are any, unless `tuned` is False.

    Raises:
        RunError: a file is missing or damaged, or does not fit the network.
        ModelError, ConfigError: the network cannot be made.
    """
    folder = Path(folder)
    again = "make it again with: python -m bnas extract --force"
    file = read_json(folder / "subnet.json", SubnetFile, mend=again)
    if file.model is None:
        raise RunError(f"{folder / 'subnet.json'} does not say which network it is of; {again}")
    import_plugins(file.plugins)
    model, _ = load_model(file.model)
    path = folder / FINETUNED
    if not (tuned and path.exists()):
        path = folder / "weights.safetensors"
    try:
        with safe_open(path, "pt") as weights:
            shapes = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
        reshape(model, file.reshaping, shapes)
        fill(model, path)
    except (OSError, SafetensorError, RuntimeError, AttributeError) as error:
        raise RunError(f"{path} cannot be read ({str(error).strip().splitlines()[0]}); {again}") from error
    return model.eval()


def _file(project: Project, trained: Supernet, name: str, config: SubnetConfig | None) -> SubnetFile:
    return SubnetFile(
        name=name,
        config=config,
        model=project.fresh_config,
        reshaping=Reshaping() if config is None else reshaping(trained, architecture(config)),
        plugins=project.config.plugins,
    )


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
        return supernet.extract_subnet(project.supernet(trained=True), architecture(config))
    return load_subnet(project, config)
