"""`bnas quantize`: the chosen subnets and the original network in INT8."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from bnas import progress
from bnas import quantize as quantizing
from bnas.commands.evaluation import calibration_split, quantization_images
from bnas.commands.extract import SubnetFile, load_subnet, resolution
from bnas.commands.project import Made, Project
from bnas.errors import ConfigError
from bnas.export import Artefact, Quantized, export
from bnas.files import read_json, write_json
from bnas.quantize import NncfQAT
from bnas.quantize.in_openvino import for_openvino
from bnas.quantize.nncf_torch import to_openvino
from bnas.report import Finetuned
from bnas.space import Precisions, precisions_of, resized
from bnas.train.distributed import world
from bnas.train.qat import finetune_config, train_quantized

TRAINED = "qat.json"  # beside int8.xml: what training with quantizers gained


def subnet_names(project: Project) -> tuple[str, ...]:
    """The original network ("reference") first, then the chosen subnets in order."""
    names = sorted(path.parent.name for path in project.folder.path("subnets").glob("*/subnet.json"))
    return tuple(sorted(names, key=lambda name: (name != "reference", name)))


def quantize(project: Project) -> Made:
    """Write subnets/<name>/int8.xml and .bin, calibrated on training images; with `quantize=nncf_qat` trained on them,
    and qat.json besides.

    Raises:
        ConfigError: options of that training that do not fit, or it is asked for in many processes.
    """
    from bnas.commands.export import plain_ir  # which needs the names of this file

    config = project.config.quantize
    if isinstance(config, NncfQAT):
        _check_training(project, config)
    else:
        for former in project.folder.path("subnets").glob(f"*/{TRAINED}"):
            former.unlink()
    names, images = subnet_names(project), quantization_images(project)
    made: list[str] = []
    artefacts: dict[str, Artefact] = {}
    with progress.bar("quantize", total=len(names)) as step:
        for name in names:
            module, size = load_subnet(project, name), resolution(project, name)
            example, own = resized(project.example, size), (resized(image, size) for image in images)
            if isinstance(config, NncfQAT):
                quantized = _trained(project, config, name, module, own, example)
                made.append(f"subnets/{name}/{TRAINED}")
            else:
                quantized = quantizing.quantize(
                    module, for_openvino(config), own, example, precisions=precisions(project, name)
                )
            path = f"subnets/{name}/int8.xml"
            artefact = export(quantized, plain_ir(project.config.export), project.folder.path(path), example)
            artefacts[name] = relative(project, artefact)
            made += (path, path.replace(".xml", ".bin"))
            step(note=name)
    write_json(project.folder.path("subnets", "int8.json"), artefacts)
    sizes = ", ".join(f"{name} {artefacts[name].size_bytes / 1e6:.2f} MB" for name in names)
    trained = _gains(project, names) if isinstance(config, NncfQAT) else ""
    return Made(
        paths=(*made, "subnets/int8.json"),
        line=f"INT8, calibrated on {len(images)} {calibration_split(project)[0]} images{trained}: {sizes} → "
        f"{project.folder.path('subnets')}",
    )


def precisions(project: Project, name: str) -> Precisions:
    """What each part of the subnet called `name` is quantized to; none: all of it to INT8."""
    config = read_json(project.folder.path("subnets", name, "subnet.json"), SubnetFile).config
    return {} if config is None else precisions_of(project.graph, project.space, config)


def relative(project: Project, artefact: Artefact) -> Artefact:
    """`artefact` with its path relative to the run folder, so that the folder can be moved."""
    return replace(artefact, path=str(Path(artefact.path).relative_to(project.folder.root)))


def absolute(project: Project, artefact: Artefact) -> Artefact:
    """`artefact` with its path as the runtime opens it."""
    return replace(artefact, path=str(project.folder.path(artefact.path)))


def _check_training(project: Project, config: NncfQAT) -> None:
    """All that can be wrong with the options is told before the first training."""
    try:
        finetune_config(config, project.config.finetune.task)
    except ConfigError as error:
        raise ConfigError(f"quantize.{error}") from error
    if world().size > 1:
        raise ConfigError(
            f"quantize.kind: nncf_qat trains in one process, not in {world().size}; this stage alone without torchrun: "
            "python -m bnas quantize"
        )


def _trained(
    project: Project,
    config: NncfQAT,
    name: str,
    module: nn.Module,
    calibration: Iterable[Tensor],
    example: Tensor,
) -> Quantized:
    """The subnet trained with quantizers in place; a training that was killed goes on in checkpoints/qat/<name>."""
    progress.say(f"{name}: training with quantizers")
    trained = train_quantized(
        module,
        config,
        calibration,
        example,
        project.data,
        seed=project.config.seed,
        task=project.config.finetune.task,
        checkpoint=project.folder.path("checkpoints", "qat", name),
        tensorboard=project.folder.path("tensorboard", "qat", name),
        resolution=resolution(project, name),
    )
    gain = Finetuned(
        metric=trained.metric,
        before=trained.before,
        after=trained.after,
        kept=trained.kept,
        images=len(project.data.val),
    )
    write_json(project.folder.path("subnets", name, TRAINED), gain)
    return to_openvino(trained.module, example)


def _gains(project: Project, names: Sequence[str]) -> str:
    gains = [read_json(project.folder.path("subnets", name, TRAINED), Finetuned) for name in names]
    told = (
        f"{name} {gain.before:.2f} → {gain.after:.2f}{'' if gain.kept else ' (left as it was)'}"
        for name, gain in zip(names, gains, strict=True)
    )
    return f", trained with quantizers ({gains[0].metric} {', '.join(told)})"
