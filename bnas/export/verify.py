"""Is the artefact the network? It is run beside the torch module on real images."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from bnas.errors import ExportError
from bnas.export.artefact import Artefact, ExportConfig, Quantized, check_digest, export, files_of
from bnas.export.run import load
from bnas.files import cannot_write


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What running two networks on the same images found.

    `difference` is the largest between their outputs, `scale` the largest |output| of the module, `worst` the number of
    the image with the largest difference. `same` of `images` images get the same top-1 class; None: no classes.
    """

    difference: float
    scale: float
    worst: int
    same: int | None
    images: int
    finite: bool

    @property
    def relative(self) -> float:
        """`difference` as a fraction of `scale`."""
        return self.difference / self.scale if self.scale else self.difference


def verify(
    artefact: Artefact,
    module: nn.Module,
    inputs: Iterable[Tensor],
    config: ExportConfig | None = None,
    *,
    name: str | None = None,
) -> Artefact:
    """The artefact with its largest difference and top-1 agreement with `module` on `inputs` filled in.

    `inputs` are batches of normalised images [n, C, H, W], real ones: on noise a network may give one class to all. An
    artefact with its pre-processing built in gets them as they are stored, and the module what is made of these. The
    agreement stays None where the module's output is no [n, classes]. `name`: what errors call the file.

    Raises:
        ExportError: an FP32 artefact differs by more than `config.tolerance`, or an INT8 one agrees on fewer
            than `config.min_agreement_percent` of the images, or it cannot be run.
        RunError: the artefact's files are not those that were written.
    """
    config, name = config or ExportConfig(), name or artefact.path
    check_digest(artefact)
    found = compare(artefact, module, inputs, name=name)
    if not found.finite:
        raise ExportError(f"{name}: its output holds values that are not finite")
    agreement = None if found.same is None else 100 * found.same / found.images
    if artefact.precision == "f32" and not found.relative <= config.tolerance:
        raise ExportError(
            f"{name}: its outputs differ from the torch module's by up to {found.relative:.2g} of the "
            f"largest output on {found.images} images (most on image {found.worst}); "
            f"allowed: {config.tolerance:.2g} (export.tolerance)"
        )
    if artefact.precision == "int8" and agreement is not None and agreement < config.min_agreement_percent:
        raise ExportError(
            f"{name}: INT8 agrees with the torch module on {agreement:.1f} % of {found.images} images; "
            f"expected {config.min_agreement_percent:g} % or more (export.min_agreement_percent); use more "
            "calibration images (quantize.samples) that look like these"
        )
    return replace(artefact, largest_difference=found.relative, agreement_percent=agreement)


def compare(
    artefact: Artefact, module: nn.Module, inputs: Iterable[Tensor], *, name: str | None = None
) -> Comparison:
    """Run the artefact and `module` on batches of normalised images.

    Raises:
        ExportError: the artefact cannot be run, its outputs have another shape, or there are no images.
    """
    run, stored, name = load(artefact.path), artefact.preprocess, name or artefact.path
    difference, scale, worst, same, count, finite, classifies = 0.0, 0.0, 0, 0, 0, True, True
    with torch.no_grad():
        for images in inputs:
            raw = images if stored is None else stored.stored(images)
            wanted = module(images if stored is None else stored.applied(raw))
            got = run(raw)
            if wanted.shape != got.shape:
                raise ExportError(
                    f"{name}: its output is {list(got.shape)}, the network's {list(wanted.shape)}"
                )
            each = (wanted - got).abs().flatten(1).amax(1)
            finite = finite and bool(torch.isfinite(got).all())
            if float(each.max()) > difference:
                difference, worst = float(each.max()), count + int(each.argmax())
            scale = max(scale, float(wanted.abs().max()))
            classifies = classifies and wanted.ndim == 2
            same += int((wanted.argmax(1) == got.argmax(1)).sum()) if classifies else 0
            count += len(images)
    if count == 0:
        raise ExportError(f"{name}: no images given to verify it on")
    return Comparison(
        difference=difference,
        scale=scale,
        worst=worst,
        same=same if classifies else None,
        images=count,
        finite=finite,
    )


def export_verified(
    model: nn.Module | Quantized,
    config: ExportConfig,
    path: Path,
    example: Tensor,
    module: nn.Module,
    inputs: Iterable[Tensor],
) -> Artefact:
    """`export` of `model`, then `verify` with `module` on `inputs`; only a file that passed is ever at `path`.

    Until then it has another name beside it. What was at `path` before stays when this fails.

    Raises:
        ExportError: as `export` and `verify`.
        RunError: the file cannot be written.
    """
    aside = path.with_name(f".{path.stem}.unverified{path.suffix}")
    written: tuple[Path, ...] = (aside, aside.with_suffix(".bin"))
    try:
        artefact = export(model, config, aside, example)
        written = files_of(artefact)
        if path.suffix != Path(artefact.path).suffix:  # which the exporter has added
            path = path.with_name(path.name + Path(artefact.path).suffix)
        checked = verify(artefact, module, inputs, config, name=str(path))
        placed = replace(checked, path=str(path))
        for source, target in reversed(list(zip(written, files_of(placed), strict=True))):
            try:  # the .bin first: an .xml that is there has its weights
                os.replace(source, target)
            except OSError as error:
                cannot_write(target, error.strerror or str(error), error)
    except BaseException:
        for file in written:
            with suppress(OSError):
                file.unlink(missing_ok=True)
        raise
    return placed
