"""RetinaNet (Lin et al. 2018) as MLPerf has it: torchvision's, with a ResNeXt-50 body, for batches of images too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torchvision.models
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.misc import Conv2dNormActivation

from bnas.detection import Decoding, RawDetections
from bnas.errors import ModelError, did_you_mean
from bnas.models.classifiers import need_colour
from bnas.models.family import ModelConfig, ModelFamily, Shape
from bnas.models.fpn import LEVELS, ResNetFPN, of_levels

BODIES = tuple(torchvision.models.list_models(include=["resnet*", "resnext*", "wide_resnet*"]))
NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d}
DECODING = Decoding(scores="sigmoid", weights=(1.0, 1.0, 1.0, 1.0))
_RATIOS = (0.5, 1.0, 2.0)
_FINEST = 32  # sides of the anchors of p3 in pixels: this, and 1/3 and 2/3 of an octave more


class Anchors(AnchorGenerator):  # type: ignore[misc]
    """torchvision's, always in float32, and without assignments and in-place functions, for exporters."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        height, width = image_list.tensors.shape[-2:]
        sizes = [list(own.shape[-2:]) for own in feature_maps]
        device = feature_maps[0].device
        if any(own.device != device for own in self.cell_anchors):
            self.set_cell_anchors(torch.float32, device)
        anchors = torch.cat(self.grid_anchors(sizes, [[height // h, width // w] for h, w in sizes]))
        return [anchors for _ in image_list.image_sizes]


class RetinaNet(detection.RetinaNet):  # type: ignore[misc]
    """torchvision's RetinaNet, under its names, which also takes batches.

    Called with normalised images [n, 3, H, W] it returns `RawDetections`, in train and in eval mode. Called
    with a list of images (3, H, W, in 0 … 1, of any sizes) it is torchvision's: it resizes them to `image_size`
    and returns a dict of boxes in pixels, scores and labels for each; in train mode, with targets, losses.

    Args:
        backbone: images to maps, the finest first.
        num_classes: without a background, which has no score of its own here.
        image_size: height and width in pixels to which listed images are resized.
        anchors: sides in pixels of the square anchors of each level.
        towers: convolutions in each head before its output.
        decoding: how boxes are made of the outputs.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        image_size: tuple[int, int],
        anchors: Sequence[Sequence[int]],
        towers: int = 4,
        decoding: Decoding = DECODING,
    ) -> None:
        super().__init__(
            backbone,
            num_classes,
            min_size=min(image_size),
            max_size=max(image_size),
            anchor_generator=Anchors(tuple(map(tuple, anchors)), (_RATIOS,) * len(anchors)),
            score_thresh=decoding.score_threshold,
            nms_thresh=decoding.nms_threshold,
            topk_candidates=decoding.candidates,
            detections_per_img=decoding.most_boxes,
            size_divisible=1,  # all are of one size already
        )
        self.image_size = image_size
        for head in (self.head.classification_head, self.head.regression_head):
            head.conv = _tower(head.conv, towers)

    @property
    def decoding(self) -> Decoding:
        """How boxes are made of the outputs; the numbers are torchvision's own attributes."""
        return Decoding(
            scores="sigmoid",
            weights=self.box_coder.weights,
            score_threshold=self.score_thresh,
            nms_threshold=self.nms_thresh,
            candidates=self.topk_candidates,
            most_boxes=self.detections_per_img,
        )

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels to which listed images are resized."""
        width, height = self.transform.fixed_size
        return height, width

    @image_size.setter
    def image_size(self, size: tuple[int, int]) -> None:
        self.transform.fixed_size = (size[1], size[0])

    @property
    def class_layers(self) -> dict[str, int]:
        """Layers with outputs for each class, and how many: what weights for other classes differ in."""
        return {"head.classification_head.cls_logits": self.head.classification_head.num_anchors}

    def adapted_weights(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights of the network with all levels as those of this one, whatever it has of them."""
        return of_levels(weights, self.state_dict())

    def forward(self, images: Any, targets: list[dict[str, Tensor]] | None = None) -> Any:
        return self.raw(images) if isinstance(images, Tensor) else super().forward(images, targets)

    def raw(self, images: Tensor) -> RawDetections:
        """What is computed for normalised images [n, 3, H, W], before boxes are made of it."""
        maps = list(self.backbone(images).values())
        found = self.head(maps)
        height, width = images.shape[-2:]
        (anchors,) = self.anchor_generator(ImageList(images, [(height, width)]), maps)
        return RawDetections(
            found["cls_logits"],
            found["bbox_regression"],
            anchors / anchors.new_tensor((width, height, width, height)),
            tuple(
                own.shape[-2] * own.shape[-1] * count
                for own, count in zip(maps, self.anchor_generator.num_anchors_per_location(), strict=True)
            ),
            self.decoding,
        )


def _tower(conv: nn.Sequential, count: int) -> nn.Sequential:
    """The first `count` convolutions of a head, and more like them where it has fewer."""
    layers: Any = list(conv)[:count]
    channels = layers[0][0].out_channels
    while len(layers) < count:
        layers.append(Conv2dNormActivation(channels, channels, norm_layer=None))
        nn.init.normal_(layers[-1][0].weight, std=0.01)
        nn.init.zeros_(layers[-1][0].bias)
    return nn.Sequential(*layers)


def make_retinanet(
    num_classes: int,
    image_size: tuple[int, int],
    *,
    body: str = "resnext50_32x4d",
    levels: Sequence[str] | int = LEVELS,
    width: int = 256,
    towers: int = 4,
    norm: str = "batch",
    anchor_scale: float = 1.0,
    score_threshold: float = DECODING.score_threshold,
    nms_threshold: float = DECODING.nms_threshold,
    candidates: int = DECODING.candidates,
    most_boxes: int = DECODING.most_boxes,
) -> RetinaNet:
    """A RetinaNet with fresh weights; without options the one of MLPerf's inference benchmark.

    Args:
        body: a residual network of torchvision, as resnet18.
        levels: which of p3 … p7 the pyramid has, or how many of the coarsest.
        width: channels of the pyramid's maps and of the heads.
        towers: convolutions in each head before its output.
        norm: "batch", or "frozen": batch norms of the body with numbers that training does not change.
        anchor_scale: by which the sides of all anchors are multiplied (1: 32 to 812 pixels), as for objects
            that are small in small images.
        score_threshold, nms_threshold, candidates, most_boxes: as in `Decoding`.

    Raises:
        ModelError: an option's value is not possible.
        ConfigError: one that `Decoding` refuses.
    """
    names = _levels(levels)
    for option, number in {"width": width, "towers": towers}.items():
        if not isinstance(number, int) or number < 1:
            raise ModelError(f"model.options.{option}: expected a whole number from 1, got {number!r}")
    if not anchor_scale * _FINEST >= 1:
        raise ModelError(f"model.options.anchor_scale: expected at least 1/{_FINEST}, got {anchor_scale!r}")
    for option, known, value in (("body", BODIES, body), ("norm", NORMS, norm)):
        if value not in known:
            raise ModelError(f"model.options.{option}: no {value!r}{did_you_mean(str(value), known)}")
    network = torchvision.models.get_model_builder(body)(weights=None, norm_layer=NORMS[norm])
    return RetinaNet(
        ResNetFPN(network, names, width),
        num_classes,
        image_size=image_size,
        anchors=[_sides(name, anchor_scale) for name in names],
        towers=towers,
        decoding=replace(
            DECODING,
            score_threshold=score_threshold,
            nms_threshold=nms_threshold,
            candidates=candidates,
            most_boxes=most_boxes,
        ),
    )


def _levels(levels: Sequence[str] | int) -> tuple[str, ...]:
    if isinstance(levels, int) and 1 <= levels <= len(LEVELS):
        return LEVELS[-levels:]
    if not isinstance(levels, Sequence) or isinstance(levels, str) or not 0 < len(levels) == len({*levels}):
        raise ModelError(
            f"model.options.levels: expected names as [p4, p5, p6, p7], or how many, 1 to {len(LEVELS)}, got {levels!r}"
        )
    for name in levels:
        if name not in LEVELS:
            raise ModelError(f"model.options.levels: no level {name!r}{did_you_mean(str(name), LEVELS)}")
    return tuple(name for name in LEVELS if name in levels)


def _sides(level: str, scale: float) -> tuple[int, ...]:
    side = _FINEST * 2 ** LEVELS.index(level) * scale
    return tuple(int(side * 2 ** (third / 3)) for third in range(3))


def _make(config: ModelConfig, num_classes: int, shape: Shape) -> nn.Module:
    need_colour("retinanet", shape)
    return make_retinanet(num_classes, (shape[1], shape[2]), **config.options)


FAMILY = ModelFamily(
    name="retinanet",
    make=_make,
    task="detection",
    num_classes=264,  # those of OpenImages in MLPerf
    shape=(3, 800, 800),
)
