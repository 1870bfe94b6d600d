"""Is the artefact the network? It is run beside the torch module on real images."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from bnas.errors import ExportError
from bnas.export.artefact import Artefact, ExportConfig, Quantized, check_digest, export, files_of
from bnas.export.boxes import ENOUGH
from bnas.export.compare import Comparison, compare, compare_found
from bnas.files import cannot_write
from bnas.progress import say

_SAME_BOXES_PERCENT = 99.0  # of scores that are equal but for rounding either may come first


def verify(
    artefact: Artefact,
    module: nn.Module,
    inputs: Iterable[Tensor],
    config: ExportConfig | None = None,
    *,
    name: str | None = None,
) -> Artefact:
    """The artefact with its largest difference and agreement with `module` on `inputs` filled in.

    `inputs` are batches of normalised images [n, C, H, W], real ones: on noise a network may give one class to all. An
    artefact with its pre-processing built in gets them as they are stored, and the module what is made of these. The
    agreement is that of top-1 classes, None where the module's output is no [n, classes]; of a detector it is that of
    boxes (`bnas.export.boxes.agreement`), None where there are none, and in INT8 where there are too few to tell, which
    a line says. `name`: what errors call the file.

    Raises:
        ExportError: an FP32 artefact differs by more than `config.tolerance`, or an INT8 one agrees on fewer
            than `config.min_agreement_percent` of the answers, or it cannot be run.
        RunError: the artefact's files are not those that were written.
    """
    config, name = config or ExportConfig(), name or artefact.path
    check_digest(artefact)
    if artefact.nms:
        found = compare_found(artefact, module, inputs, tolerance=config.tolerance, name=name)
    else:
        found = compare(artefact, module, inputs, name=name)
    if not found.finite:
        raise ExportError(f"{name}: its output holds values that are not finite")
    agreement = found.agreement_percent
    if artefact.precision == "f32":
        _check_whole(found, config, name)
    elif found.confident is not None and found.judged < ENOUGH:
        say(f"warning: {name}: INT8 was not judged: {found.answers}; it takes {ENOUGH} to tell")
        agreement = None
    elif agreement is not None and agreement < config.min_agreement_percent:
        raise ExportError(
            f"{name}: {artefact.precision.upper()} agrees with the torch module on {agreement:.1f} % of "
            f"{found.answers}; expected {config.min_agreement_percent:g} % or more (export.min_agreement_percent); "
            "use more calibration images (quantize.samples) that look like these"
        )
    return replace(artefact, largest_difference=found.relative, agreement_percent=agreement)


def _check_whole(found: Comparison, config: ExportConfig, name: str) -> None:
    """Of an FP32 network the numbers are those of the module; of one that gives boxes the boxes."""
    if found.relative is None:
        least, agreement = min(found.steady_percent, _SAME_BOXES_PERCENT), found.agreement_percent
        if agreement is not None and agreement < least:
            raise ExportError(
                f"{name}: its boxes are those of the torch module for {agreement:.1f} % of {found.answers}; "
                f"expected {least:.1f} % or more, as for outputs that are off by {config.tolerance:.2g} "
                "(export.tolerance)"
            )
    elif not found.relative <= config.tolerance:
        raise ExportError(
            f"{name}: its outputs differ from the torch module's by up to {found.relative:.2g} of the "
            f"largest output on {found.images} images (most on image {found.worst}); "
            f"allowed: {config.tolerance:.2g} (export.tolerance)"
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
    begun = f".{path.stem}.unverified"
    aside = path.with_name(f"{begun}{path.suffix}")
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
        for file in path.parent.glob(f"{glob.escape(begun)}*"):  # some formats have several files
            with suppress(OSError):
                file.unlink(missing_ok=True)
        raise
    return placed
