"""What a detector computes for a batch of images, before boxes are made of it, and how they are made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from bnas.errors import ConfigError

_LEAST = 1e-30


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How boxes are made of a detector's outputs.

    scores: "sigmoid": each class has a score of its own (RetinaNet), class 0 is the first; "softmax": class 0
        of the outputs is the background and is no class of the data (SSD).
    weights: by which the regressions of centre x, centre y, width and height are divided (Girshick et al. 2014,
        appendix C, as in torchvision's `BoxCoder`).
    score_threshold: boxes with lower scores are left out before suppression.
    nms_threshold: of two boxes of a class that overlap by more (IoU), the one with the lower score is left out.
    candidates: boxes with the highest scores that go into suppression: of each level (sigmoid), of each class
        (softmax).
    most_boxes: of an image, at most.
    """

    scores: Literal["sigmoid", "softmax"]
    weights: tuple[float, float, float, float]
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    candidates: int = 1000
    most_boxes: int = 300

    def __post_init__(self) -> None:
        for option in ("score_threshold", "nms_threshold"):
            if not 0 <= getattr(self, option) <= 1:
                raise ConfigError(f"{option}: expected 0 to 1, got {getattr(self, option)}")
        for option in ("candidates", "most_boxes"):
            if getattr(self, option) < 1:
                raise ConfigError(f"{option}: expected at least 1, got {getattr(self, option)}")


class RawDetections(NamedTuple):
    """A detector's outputs for images [n, C, H, W].

    logits: float [n, anchors, outputs], `outputs` being the classes, and the background where `decoding` has one.
    boxes: float [n, anchors, 4], the regression of each anchor, not yet a box.
    anchors: float [anchors, 4], x1, y1, x2, y2 as fractions of the image's width and height.
    levels: how many anchors each level of the pyramid has, in the order of `anchors`.
    decoding: how boxes are made of these.
    """

    logits: Tensor
    boxes: Tensor
    anchors: Tensor
    levels: tuple[int, ...]
    decoding: Decoding


class RawTensors(nn.Module):
    """A detector as it is deployed: images [n, C, H, W] to what `deployed` gives.

    Scores are [n, anchors, outputs], regressions [n, anchors, 4].
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return deployed(self.detector(images))


def deployed(raw: RawDetections) -> tuple[Tensor, Tensor]:
    """Scores and regressions as a deployed detector gives them: logits of "sigmoid", probabilities of "softmax".

    The latter as MLCommons' SSD-ResNet34 has them, whose softmax over the classes is part of the network.
    """
    return (raw.logits.softmax(-1) if raw.decoding.scores == "softmax" else raw.logits), raw.boxes


def decoding_of(module: nn.Module) -> Decoding | None:
    """How boxes are made of what `module` computes; None: it is no detector that takes batches of images."""
    decoding = getattr(module, "decoding", None)
    return decoding if isinstance(decoding, Decoding) else None


def completing(detector: nn.Module, example: Tensor) -> Callable[[Sequence[Tensor]], RawDetections]:
    """A function from what `RawTensors(detector)`, deployed, computes for images of the size of `example` to
    `RawDetections`.

    The detector runs once on `example` [n, C, H, W], for its anchors.
    """
    training = [module for module in detector.modules() if module.training]
    with torch.no_grad():
        raw = detector.eval()(example)
    for module in training:
        module.training = True

    def complete(tensors: Sequence[Tensor]) -> RawDetections:
        scores, boxes = (torch.as_tensor(tensor) for tensor in tensors)
        # of probabilities the logarithms; quantized ones may be 0
        logits = scores.clamp(min=_LEAST).log() if raw.decoding.scores == "softmax" else scores
        return RawDetections(logits, boxes, raw.anchors, raw.levels, raw.decoding)

    return complete
