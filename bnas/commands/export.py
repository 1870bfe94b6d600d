"""`bnas export`: FP32 files beside the INT8 ones, and every file checked against the torch module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import prod
from typing import Any

from torch import Tensor, nn

from bnas import export as exporting
from bnas import progress
from bnas import quantize as quantizing
from bnas.commands.evaluation import quantization_images
from bnas.commands.export_formats import (
    FURTHER,
    equalization_line,
    formats_of,
    plain_ir,
    quantizer_for,
    suffix_of,
)
from bnas.commands.extract import load_subnet, resolution
from bnas.commands.project import Made, Project
from bnas.commands.quantize import absolute, precisions, relative, subnet_names
from bnas.data import Images, batches
from bnas.detection import decoding_of
from bnas.export import AimetEncodings, Artefact, ExportConfig, OpenVinoIR, Quantized
from bnas.export.artefact import files_of
from bnas.export.boxes import CONFIDENT, ENOUGH
from bnas.export.encodings import Encoded
from bnas.export.openvino_runtime import read_network
from bnas.files import read_json, write_json
from bnas.space import resized

__all__ = ["export", "plain_ir"]

CHECKED_IMAGES, AT_ONCE = 500, 100
MOST_VALUES = (
    CHECKED_IMAGES * 3 * 320 * 320
)  # of larger images fewer are taken: this many values, 600 MB, in all


@dataclass(frozen=True, kw_only=True)
class Subnet:
    """One network to export: its module, an input [1, C, H, W], and images of its size to check it on.

    `started`: the date and time of this export.
    """

    name: str
    started: str
    module: nn.Module
    example: Tensor
    images: Sequence[Tensor]


def export(project: Project) -> Made:
    """Write subnets/<name>/fp32.xml, files in further formats, and artefacts.json, which holds what checks found.

    A file that fails its check is not left behind, but for the INT8 ones that were there before. Encodings for AIMET
    go to outputs/<date and time>/, named like the subnet.
    """
    names = subnet_names(project)
    int8 = read_json(project.folder.path("subnets", "int8.json"), dict[str, Artefact])
    images = _checked_images(project.data.val)
    plain, further = formats_of(project.config.export, project.data.train)
    made: list[str] = []
    started = datetime.now().strftime("%Y%m%d-%H%M%S")
    detectors = False
    equalized: list[Mapping[str, Any]] = []
    checked: dict[str, dict[str, Artefact]] = {}
    with progress.bar("export", total=len(names) * (1 + len(further))) as step:
        for name in names:
            module, size = load_subnet(project, name), resolution(project, name)
            subnet = Subnet(
                name=name,
                started=started,
                module=module,
                example=resized(project.example, size),
                images=[resized(batch, size) for batch in images],
            )
            detectors = decoding_of(module) is not None
            small = absolute(project, int8[name])
            files = {
                "fp32": _written(project, subnet, module, plain, "fp32.xml"),
                "int8": exporting.verify(small, module, subnet.images, plain),
            }
            step(note=name)
            for config in further:
                for kind, model in _networks(project, subnet, config, small):
                    file = f"{kind}{suffix_of(config)}"
                    files[file] = _written(project, subnet, model, config, file)
                    if isinstance(model, Quantized) and isinstance(model.model, Encoded):
                        equalized.append(model.model.equalization)
                step(note=f"{name} {suffix_of(config)}")
            checked[name] = {kind: relative(project, artefact) for kind, artefact in files.items()}
    for files in checked.values():
        for kind, artefact in files.items():
            if kind != "int8":  # which the stage quantize made
                made += [str(path) for path in files_of(artefact)]
    _remove_others(project, made)
    write_json(project.folder.path("subnets", "artefacts.json"), checked)
    worst = max(files["fp32"].largest_difference or 0.0 for files in checked.values())
    count = sum(map(len, checked.values()))
    return Made(
        paths=(*made, "subnets/artefacts.json"),
        line=f"{count} networks; FP32 within {worst:.1g} of the torch modules, "
        f"{_opinion([files['int8'] for files in checked.values()], detectors, sum(map(len, images)))}"
        f"{equalization_line(equalized)} → {project.folder.path('subnets')}",
    )


def _checked_images(images: Images) -> list[Tensor]:
    """The first of `images`, in batches."""
    most = max(1, MOST_VALUES // prod(images.shape))
    order = range(min(CHECKED_IMAGES, most, len(images)))
    return [x for x, _ in batches(images, min(AT_ONCE, max(1, most // 5)), order=order)]


def _opinion(int8: Sequence[Artefact], detectors: bool, images: int) -> str:
    """What INT8 networks say beside the torch modules."""
    known = [own.agreement_percent for own in int8 if own.agreement_percent is not None]
    if detectors and not known:
        few = f"fewer than {ENOUGH} boxes with a score of {CONFIDENT[-1]:g} or more"
        return f"INT8 was not judged: {few} in {images} images"
    least = min(known, default=0.0)
    if detectors:
        return f"INT8 finds the same boxes for at least {least:.1f} % of them in {images} images"
    return f"INT8 of the same opinion on at least {least:.1f} % of {images} images"


def _remove_others(project: Project, made: Sequence[str]) -> None:
    """Files of formats that are no longer asked for: they may be of networks as they were before."""
    for path in project.folder.path("subnets").glob("*/*"):
        ours = path.suffix in FURTHER or path.stem.endswith(("_u8", "_nms"))
        if ours and str(path.relative_to(project.folder.root)) not in made:
            path.unlink()


def _written(
    project: Project, subnet: Subnet, model: nn.Module | Quantized, config: ExportConfig, file: str
) -> Artefact:
    path = project.folder.path("subnets", subnet.name, file)
    if isinstance(config, AimetEncodings):
        path = project.folder.path("outputs", subnet.started, f"{subnet.name}.encodings")
    return exporting.export_verified(model, config, path, subnet.example, subnet.module, subnet.images)


def _networks(
    project: Project, subnet: Subnet, config: ExportConfig, small: Artefact
) -> Iterator[tuple[str, nn.Module | Quantized]]:
    """FP32 and, where the format has it, INT8; in OpenVINO IR the very network that was quantized."""
    if not isinstance(config, AimetEncodings):  # whose files hold both
        yield "fp32", subnet.module
    if not config.int8:
        return
    if isinstance(config, OpenVinoIR):
        model = read_network(small.path)
        yield "int8", Quantized(model=model, precision=small.precision, detector=subnet.module)
        return
    quantizer = quantizer_for(project.config.quantize, config)
    size = resolution(project, subnet.name)
    own = (resized(image, size) for image in quantization_images(project))
    yield (
        "int8",
        quantizing.quantize(
            subnet.module, quantizer, own, subnet.example, precisions=precisions(project, subnet.name)
        ),
    )
