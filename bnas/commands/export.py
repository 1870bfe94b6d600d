"""`bnas export`: FP32 files beside the INT8 ones, and every file checked against the torch module."""

from __future__ import annotations

from bnas import export as exporting
from bnas import progress
from bnas.commands.extract import load_subnet, resolution
from bnas.commands.project import Made, Project
from bnas.commands.quantize import absolute, relative, subnet_names
from bnas.data import batches
from bnas.export import Artefact
from bnas.files import read_json, write_json
from bnas.space import resized

CHECKED_IMAGES = 500


def export(project: Project) -> Made:
    """Write subnets/<name>/fp32.xml and artefacts.json, which holds what the check of each file found."""
    names = subnet_names(project)
    int8 = read_json(project.folder.path("subnets", "int8.json"), dict[str, Artefact])
    images = [
        x for x, _ in batches(project.data.val, 100, order=range(min(CHECKED_IMAGES, len(project.data.val))))
    ]
    made: list[str] = []
    checked: dict[str, dict[str, Artefact]] = {}
    config = project.config.export
    with progress.bar("export", total=len(names)) as step:
        for name in names:
            module, size = load_subnet(project, name), resolution(project, name)
            example, own = resized(project.example, size), [resized(batch, size) for batch in images]
            path = f"subnets/{name}/fp32.xml"
            fp32 = exporting.export(module, config, project.folder.path(path), example)
            both = {"fp32": fp32, "int8": absolute(project, int8[name])}
            checked[name] = {
                kind: relative(project, exporting.verify(artefact, module, own, config))
                for kind, artefact in both.items()
            }
            made += (path, path.replace(".xml", ".bin"))
            step(note=name)
    write_json(project.folder.path("subnets", "artefacts.json"), checked)
    worst = max(files["fp32"].largest_difference or 0.0 for files in checked.values())
    agreement = min(files["int8"].top1_agreement_percent or 0.0 for files in checked.values())
    return Made(
        paths=(*made, "subnets/artefacts.json"),
        line=f"{2 * len(names)} networks; FP32 within {worst:.1g} of the torch modules, INT8 of the same opinion on "
        f"at least {agreement:.1f} % of {sum(map(len, images))} images → {project.folder.path('subnets')}",
    )
