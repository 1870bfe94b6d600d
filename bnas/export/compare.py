"""An exported network and its torch module, run on the same images: how far apart are they?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import eq
from typing import Any

import torch
from torch import Tensor, nn

from bnas.detection import RawDetections, decoding_of
from bnas.detection.postprocess import detections
from bnas.errors import ExportError
from bnas.export.artefact import Artefact
from bnas.export.batching import tensors_in
from bnas.export.boxes import Found, agreeing, agreement, boxes_in
from bnas.export.nms import found_in
from bnas.export.run import load_all
from bnas.export.traceable import traceable

_UPON = 0.95  # IoU of boxes that are the same but for rounding


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What running two networks on the same images found.

    `relative` is the largest difference between their outputs, as a fraction of the largest |value| that the module has
    in that output; `worst` the number of the image with it; None: outputs are boxes. `same` of `judged` answers are the
    same, if there are any: top-1 classes of images; of a detector boxes, counted from a score of `confident`.
    `steady_percent`: of boxes that are compared with all their digits, how many the module finds again with outputs
    that are off by the tolerance: where scores are equal, as before training, rounding decides which box is left.
    """

    relative: float | None
    worst: int
    same: int
    judged: int
    images: int
    finite: bool
    confident: float | None = None
    steady_percent: float = 100.0

    @property
    def agreement_percent(self) -> float | None:
        """How many of the answers are the same; None: there are none."""
        return 100 * self.same / self.judged if self.judged else None

    @property
    def answers(self) -> str:
        if self.confident is None:
            return f"{self.images} images"
        least = f" with a score of {self.confident:g} or more" if self.confident else ""
        return f"{self.judged} boxes{least} in {self.images} images"


def compare(
    artefact: Artefact, module: nn.Module, inputs: Iterable[Tensor], *, name: str | None = None
) -> Comparison:
    """Run the artefact and `module` on batches of normalised images, and compare each of their outputs.

    Raises:
        ExportError: the artefact cannot be run, its outputs have another shape, or there are no images.
    """
    run, network, name = load_all(artefact.path), traceable(module), name or artefact.path
    detector = decoding_of(module) is not None
    answers: Callable[[Sequence[Tensor]], Sequence[Any]] | None = None
    outputs: list[_Output] = []
    ours: list[Any] = []
    theirs: list[Any] = []
    count, finite = 0, True
    with torch.no_grad():
        for images in inputs:
            raw, seen = _given(artefact, images)
            wanted, got = tensors_in(network(seen)), run(raw)
            if [own.shape for own in wanted] != [own.shape for own in got]:
                raise ExportError(f"{name}: its output is {_shapes(got)}, the network's {_shapes(wanted)}")
            finite = finite and all(bool(torch.isfinite(own).all()) for own in got)
            outputs = outputs or [_Output() for _ in wanted]
            for output, one, other in zip(outputs, wanted, got, strict=True):
                output.add(one, other, count)
            answers = answers or (boxes_in(module, seen[:1]) if detector else _classes)
            if finite:
                ours += answers(wanted)
                theirs += answers(got)
            count += len(images)
    if count == 0:
        raise ExportError(f"{name}: no images given to verify it on")
    same, judged, confident = agreement(ours, theirs) if detector else _same_classes(ours, theirs)
    most = max(outputs, key=lambda own: own.relative)
    return Comparison(
        relative=most.relative,
        worst=most.worst,
        same=same,
        judged=judged,
        images=count,
        finite=finite,
        confident=confident,
    )


def compare_found(
    artefact: Artefact,
    detector: nn.Module,
    inputs: Iterable[Tensor],
    *,
    tolerance: float = 1e-3,
    name: str | None = None,
) -> Comparison:
    """Run an artefact that gives boxes, and `detector` with decoding and suppression in torch, image by image.

    Of an FP32 artefact all boxes are compared, which have to lie upon each other.

    Raises:
        ExportError: the artefact cannot be run, or there are no images.
    """
    run, name = load_all(artefact.path), name or artefact.path
    whole = artefact.precision == "f32"
    random = torch.Generator().manual_seed(0)
    wanted: list[Found] = []
    got: list[Found] = []
    off: list[Found] = []
    finite = True
    with torch.no_grad():
        for image in (image[None] for images in inputs for image in images):
            raw, seen = _given(artefact, image)
            found, outputs = found_in(run(raw)), detector(seen)
            finite = finite and all(bool(torch.isfinite(own).all()) for own in found.values())
            wanted += detections(outputs)
            got.append(found)
            if whole:
                off += detections(_off(outputs, tolerance, random))
    if not got:
        raise ExportError(f"{name}: no images given to verify it on")
    steady, of = _all_alike(wanted, off) if whole else (0, 0)
    same, judged, confident = (*_all_alike(wanted, got), 0.0) if whole else agreement(wanted, got)
    return Comparison(
        relative=None,
        worst=0,
        same=same,
        judged=judged,
        images=len(got),
        finite=finite,
        confident=confident,
        steady_percent=100 * steady / of if of else 100.0,
    )


def _all_alike(wanted: Sequence[Found], got: Sequence[Found]) -> tuple[int, int]:
    """`agreeing` of all boxes, which have to lie upon each other."""
    return agreeing(wanted, got, confident=0.0, overlap=_UPON)


def _off(raw: RawDetections, tolerance: float, random: torch.Generator) -> RawDetections:
    """What a network may compute whose outputs are off by `tolerance`."""

    def moved(own: Tensor) -> Tensor:
        return own + tolerance * own.abs().max() * (2 * torch.rand(own.shape, generator=random) - 1)

    return raw._replace(logits=moved(raw.logits), boxes=moved(raw.boxes))


@dataclass
class _Output:
    """One of a network's outputs: how far it is off, how large it is, and the image on which it is off most."""

    difference: float = 0.0
    scale: float = 0.0
    worst: int = 0

    def add(self, wanted: Tensor, got: Tensor, first: int) -> None:
        """Of a batch whose first image has the number `first`."""
        each = (wanted - got).abs().flatten(1).amax(1)
        if float(each.max()) > self.difference:
            self.difference, self.worst = float(each.max()), first + int(each.argmax())
        self.scale = max(self.scale, float(wanted.abs().max()))

    @property
    def relative(self) -> float:
        return self.difference / self.scale if self.scale else self.difference


def _given(artefact: Artefact, images: Tensor) -> tuple[Tensor, Tensor]:
    """What the artefact is given of normalised images, and what the module is."""
    if artefact.preprocess is None:
        return images, images
    stored = artefact.preprocess.stored(images)
    return stored, artefact.preprocess.applied(stored)


def _classes(outputs: Sequence[Tensor]) -> list[int]:
    """The top-1 class of each image; none where the output is no [n, classes]."""
    return outputs[0].argmax(1).tolist() if outputs[0].ndim == 2 else []


def _same_classes(ours: Sequence[int], theirs: Sequence[int]) -> tuple[int, int, None]:
    return sum(map(eq, ours, theirs)), len(ours), None


def _shapes(outputs: Sequence[Tensor]) -> str:
    return ", ".join(str(list(own.shape)) for own in outputs)
