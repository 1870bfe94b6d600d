"""`bnas quantize`: the chosen subnets and the original network in INT8."""

from __future__ import annotations

from pathlib import Path

from bnas import progress
from bnas import quantize as quantizing
from bnas.commands.evaluation import quantization_images
from bnas.commands.extract import SubnetFile, load_subnet, resolution
from bnas.commands.project import Made, Project
from bnas.export import Artefact, export
from bnas.files import read_json, write_json
from bnas.space import Precisions, precisions_of, resized


def subnet_names(project: Project) -> tuple[str, ...]:
    """The original network ("reference") first, then the chosen subnets in order."""
    names = sorted(path.parent.name for path in project.folder.path("subnets").glob("*/subnet.json"))
    return tuple(sorted(names, key=lambda name: (name != "reference", name)))


def quantize(project: Project) -> Made:
    """Write subnets/<name>/int8.xml and .bin, calibrated on training images."""
    names, images = subnet_names(project), quantization_images(project)
    made: list[str] = []
    artefacts: dict[str, Artefact] = {}
    with progress.bar("quantize", total=len(names)) as step:
        for name in names:
            module, size = load_subnet(project, name), resolution(project, name)
            example, own = resized(project.example, size), (resized(image, size) for image in images)
            quantized = quantizing.quantize(
                module, project.config.quantize, own, example, precisions=precisions(project, name)
            )
            path = f"subnets/{name}/int8.xml"
            artefacts[name] = relative(
                project, export(quantized, project.config.export, project.folder.path(path), example)
            )
            made += (path, path.replace(".xml", ".bin"))
            step(note=name)
    write_json(project.folder.path("subnets", "int8.json"), artefacts)
    sizes = ", ".join(f"{name} {artefacts[name].size_bytes / 1e6:.2f} MB" for name in names)
    return Made(
        paths=(*made, "subnets/int8.json"),
        line=f"INT8, calibrated on {len(images)} training images: {sizes} → {project.folder.path('subnets')}",
    )


def precisions(project: Project, name: str) -> Precisions:
    """What each part of the subnet called `name` is quantized to; none: all of it to INT8."""
    config = read_json(project.folder.path("subnets", name, "subnet.json"), SubnetFile).config
    return {} if config is None else precisions_of(project.graph, project.space, config)


def relative(project: Project, artefact: Artefact) -> Artefact:
    """`artefact` with its path relative to the run folder, so that the folder can be moved."""
    from dataclasses import replace

    return replace(artefact, path=str(Path(artefact.path).relative_to(project.folder.root)))


def absolute(project: Project, artefact: Artefact) -> Artefact:
    """`artefact` with its path as the runtime opens it."""
    from dataclasses import replace

    return replace(artefact, path=str(project.folder.path(artefact.path)))
