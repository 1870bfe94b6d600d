"""An exported network and its torch module, run on the same images: how far apart are they?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnas.detection import RawDetections, decoding_of
from bnas.detection.postprocess import detections
from bnas.errors import ExportError
from bnas.export.artefact import Artefact
from bnas.export.batching import tensors_in
from bnas.export.boxes import agreeing, boxes_agreeing
from bnas.export.nms import found_in
from bnas.export.run import load_all
from bnas.export.traceable import traceable

_UPON = 0.95  # IoU of boxes that are the same but for rounding


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What running two networks on the same images found.

    `relative` is the largest difference between their outputs, as a fraction of the largest |value| that the module has
    in that output; `worst` the number of the image with it; None: outputs are boxes. `same` of `judged` answers are the
    same: top-1 classes of images or, `of_boxes`, boxes that a detector finds. There may be none. `steady_percent`: of
    boxes that are compared with all their digits, how many the module finds again with outputs that are off by the
    tolerance: where scores are equal, as before training, rounding decides which box is left.
    """

    relative: float | None
    worst: int
    same: int
    judged: int
    images: int
    finite: bool
    of_boxes: bool = False
    steady_percent: float = 100.0

    @property
    def agreement_percent(self) -> float | None:
        """How many of the answers are the same; None: there are none."""
        return 100 * self.same / self.judged if self.judged else None

    @property
    def answers(self) -> str:
        return f"{self.judged} boxes in {self.images} images" if self.of_boxes else f"{self.images} images"


def compare(
    artefact: Artefact, module: nn.Module, inputs: Iterable[Tensor], *, name: str | None = None
) -> Comparison:
    """Run the artefact and `module` on batches of normalised images, and compare each of their outputs.

    Raises:
        ExportError: the artefact cannot be run, its outputs have another shape, or there are no images.
    """
    run, network, name = load_all(artefact.path), traceable(module), name or artefact.path
    detector = decoding_of(module) is not None
    agree: Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[int, int]] | None = None
    outputs: list[_Output] = []
    same, judged, count, finite = 0, 0, 0, True
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
            agree = agree or (boxes_agreeing(module, seen[:1]) if detector else _same_classes)
            alike, of = agree(wanted, got) if finite else (0, 0)
            same, judged, count = same + alike, judged + of, count + len(images)
    if count == 0:
        raise ExportError(f"{name}: no images given to verify it on")
    most = max(outputs, key=lambda own: own.relative)
    return Comparison(
        relative=most.relative,
        worst=most.worst,
        same=same,
        judged=judged,
        images=count,
        finite=finite,
        of_boxes=detector,
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
    limits = {"confident": 0.0, "overlap": _UPON} if whole else {}
    random = torch.Generator().manual_seed(0)
    same, judged, steady, of, count, finite = 0, 0, 0, 0, 0, True
    with torch.no_grad():
        for image in (image[None] for images in inputs for image in images):
            raw, seen = _given(artefact, image)
            got, outputs = found_in(run(raw)), detector(seen)
            finite = finite and all(bool(torch.isfinite(own).all()) for own in got.values())
            wanted = detections(outputs)
            one, two = agreeing(wanted, [got], **limits)
            same, judged, count = same + one, judged + two, count + 1
            if whole:
                one, two = agreeing(wanted, detections(_off(outputs, tolerance, random)), **limits)
                steady, of = steady + one, of + two
    if count == 0:
        raise ExportError(f"{name}: no images given to verify it on")
    return Comparison(
        relative=None,
        worst=0,
        same=same,
        judged=judged,
        images=count,
        finite=finite,
        of_boxes=True,
        steady_percent=100 * steady / of if of else 100.0,
    )


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


def _same_classes(wanted: Sequence[Tensor], got: Sequence[Tensor]) -> tuple[int, int]:
    """How many of the images get the same top-1 class, and of how many; 0 where the output is no [n, classes]."""
    if wanted[0].ndim != 2:
        return 0, 0
    return int((wanted[0].argmax(1) == got[0].argmax(1)).sum()), len(wanted[0])


def _shapes(outputs: Sequence[Tensor]) -> str:
    return ", ".join(str(list(own.shape)) for own in outputs)
