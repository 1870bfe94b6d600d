"""Is the artefact the network? It is run beside the torch module on real images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from bnas.errors import ExportError
from bnas.export.artefact import Artefact, ExportConfig, check_digest
from bnas.export.openvino_ir import OpenVinoIR
from bnas.export.openvino_runtime import batch_of, compile_network, read_network, run_network


def verify(
    artefact: Artefact, module: nn.Module, inputs: Iterable[Tensor], config: ExportConfig | None = None
) -> Artefact:
    """The artefact with its largest difference and top-1 agreement with `module` on `inputs` filled in.

    `inputs` are batches of images [n, C, H, W], real ones: on noise a network may give one class to all. The
    agreement stays None where the module's output is no [n, classes].

    Raises:
        ExportError: an FP32 artefact differs by more than `config.tolerance`, or an INT8 one agrees on fewer
            than `config.min_agreement_percent` of the images.
        RunError: the artefact's files are not those that were written.
    """
    config = config or OpenVinoIR()
    check_digest(artefact)
    compiled = compile_network(read_network(artefact.path))
    request, batch = compiled.create_infer_request(), batch_of(compiled)
    difference, scale, same, count, finite, classifies = 0.0, 0.0, 0, 0, True, True
    with torch.no_grad():
        for images in inputs:
            wanted, got = module(images), run_network(request, images, batch)
            if wanted.shape != got.shape:
                raise ExportError(
                    f"{artefact.path}: its output is {list(got.shape)}, the network's {list(wanted.shape)}"
                )
            finite = finite and bool(torch.isfinite(got).all())
            difference = max(difference, float((wanted - got).abs().max()))
            scale = max(scale, float(wanted.abs().max()))
            classifies = classifies and wanted.ndim == 2
            same += int((wanted.argmax(1) == got.argmax(1)).sum()) if classifies else 0
            count += len(images)
    if count == 0:
        raise ExportError(f"{artefact.path}: no images given to verify it on")
    checked = replace(
        artefact,
        largest_difference=difference / scale if scale else difference,
        top1_agreement_percent=100 * same / count if classifies else None,
    )
    if not finite:
        raise ExportError(f"{artefact.path}: its output holds values that are not finite")
    _refuse_if_wrong(checked, config, count)
    return checked


def _refuse_if_wrong(artefact: Artefact, config: ExportConfig, images: int) -> None:
    difference, agreement = artefact.largest_difference, artefact.top1_agreement_percent
    if artefact.precision == "f32" and difference is not None and not difference <= config.tolerance:
        raise ExportError(
            f"{artefact.path}: its outputs differ from the torch module's by up to {difference:.2g} of the "
            f"largest output on {images} images; allowed: {config.tolerance:.2g} (export.tolerance)"
        )
    if artefact.precision == "int8" and agreement is not None and agreement < config.min_agreement_percent:
        raise ExportError(
            f"{artefact.path}: INT8 agrees with the torch module on {agreement:.1f} % of {images} images; "
            f"expected {config.min_agreement_percent:g} % or more (export.min_agreement_percent); use more "
            "calibration images (quantize.samples) that look like these"
        )
