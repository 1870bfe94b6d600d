"""SSD (Liu et al. 2016) with a ResNet-34 body, as in MLCommons' inference benchmark: its structure and its names.

No module is used twice and concatenations are modules, so that each has a range of numbers of its own when it is
quantized.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnas.detection import Decoding, RawDetections
from bnas.detection.postprocess import detections
from bnas.errors import ModelError, did_you_mean
from bnas.models.classifiers import need_colour
from bnas.models.family import ModelConfig, ModelFamily, Shape
from bnas.models.prior_boxes import RATIOS, SCALES, prior_boxes

BODIES = {"resnet18": (2, 2, 2), "resnet34": (3, 4, 6)}  # blocks of the three stages that are used
STRIDES = (3, 3, 2, 2, 2, 2)  # of `loc`, of `conf`, and of all additional blocks but the last
DECODING = Decoding(
    scores="softmax", weights=(10.0, 10.0, 5.0, 5.0), nms_threshold=0.5, candidates=200, most_boxes=200
)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's images
_CHANNELS = (256, 512, 512, 256, 256, 256)  # of the six maps
_INNER = (256, 256, 128, 128, 128)  # of the additional blocks
_PADDING = (1, 1, 1, 0, 0)


class BasicBlock(nn.Module):
    """torchvision's (He et al. 2016, figure 2), its names too, with a ReLU module for each of the two places."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        found: Tensor = self.relu2(x + shortcut)
        return found


class Body(nn.Module):
    """Images [n, 3, H, W] to maps [n, 256, H / 8, W / 8]: a ResNet without its last stage and its third's stride."""

    def __init__(self, depths: Sequence[int]) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
            _stage(64, 64, depths[0], 1),
            _stage(64, 128, depths[1], 2),
        )
        self.layer2 = nn.Sequential(_stage(128, 256, depths[2], 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.layer2(self.layer1(images))
        return found


class Concatenation(nn.Module):
    """Tensors side by side along `dim`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *tensors: Tensor) -> Tensor:
        return torch.cat(tensors, self.dim)


class SSDResNet34(nn.Module):
    """Normalised images [n, 3, H, W] to `RawDetections`, in train and in eval mode.

    Called in eval mode with a list of images (3, H, W, in 0 … 1, of any sizes) it resizes them to `image_size`, as
    they are, without regard to their proportions, and returns for each a dict of boxes [m, 4] in its pixels, scores
    [m] and labels [m].

    Args:
        num_classes: of the data. The outputs have one more: the first, the background.
        image_size: height and width in pixels.
        depths: blocks of the body's three stages.
        strides: of `loc`, of `conf`, and of all additional blocks but the last.
        maps: how many of the six maps there are, the finest first.
        scales: of the prior boxes of each map, and one more.
        decoding: how boxes are made of the outputs.

    Raises:
        ModelError: images of `image_size` are too small for so many maps.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        depths: Sequence[int] = BODIES["resnet34"],
        strides: Sequence[int] = STRIDES,
        maps: int = 6,
        scales: Sequence[float] = SCALES,
        decoding: Decoding = DECODING,
    ) -> None:
        super().__init__()
        for size in image_size:
            _check(size, maps, strides)
        self.num_classes, self.image_size, self.decoding = num_classes, image_size, decoding
        self.scales = tuple(scales)
        self.model = Body(depths)
        self.additional_blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, inner, 1),
                nn.ReLU(),
                nn.Conv2d(inner, outputs, 3, stride, padding=padding),
                nn.ReLU(),
            )
            for inputs, inner, outputs, stride, padding in zip(
                _CHANNELS[: maps - 1], _INNER, _CHANNELS[1:], (*strides[2:], 1), _PADDING, strict=False
            )
        )
        counts = [2 + 2 * len(ratios) for ratios in RATIOS[:maps]]
        self.loc = nn.ModuleList(
            nn.Conv2d(channels, count * 4, 3, strides[0], padding=1)
            for channels, count in zip(_CHANNELS, counts, strict=False)
        )
        self.conf = nn.ModuleList(
            nn.Conv2d(channels, count * (num_classes + 1), 3, strides[1], padding=1)
            for channels, count in zip(_CHANNELS, counts, strict=False)
        )
        self.boxes_of_maps, self.scores_of_maps = Concatenation(2), Concatenation(2)
        for part in (self.additional_blocks, self.loc, self.conf):
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)

    @property
    def class_layers(self) -> dict[str, int]:
        """Layers with outputs for each class, and how many: what weights for other classes differ in."""
        return {f"conf.{place}": 2 + 2 * len(RATIOS[place]) for place in range(len(self.conf))}

    def forward(self, images: Tensor | Sequence[Tensor]) -> Any:
        return self.raw(images) if isinstance(images, Tensor) else self.detect(images)

    def raw(self, images: Tensor) -> RawDetections:
        """What is computed for normalised images [n, 3, H, W], before boxes are made of it."""
        maps = [self.model(images)]
        for block in self.additional_blocks:
            maps.append(block(maps[-1]))
        boxes = [loc(own) for loc, own in zip(self.loc, maps, strict=True)]
        scores = [conf(own) for conf, own in zip(self.conf, maps, strict=True)]
        # channels are coordinate (or class) × shape, so that anchors are shape × row × column
        flat = [own.reshape(own.shape[0], 4, -1) for own in boxes]
        sizes = [(own.shape[2], own.shape[3]) for own in boxes]
        return RawDetections(
            self.scores_of_maps(
                *(own.reshape(own.shape[0], self.num_classes + 1, -1) for own in scores)
            ).transpose(1, 2),
            self.boxes_of_maps(*flat).transpose(1, 2),
            prior_boxes(sizes, self.scales, images.device),
            tuple(own.shape[2] for own in flat),
            self.decoding,
        )

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """The objects in each of `images` (3, H, W, in 0 … 1, of any sizes).

        Raises:
            ModelError: the network is in train mode, or an image is no such tensor.
        """
        if self.training:
            raise ModelError(
                "ssd_resnet34 in train mode takes batches, Tensor [n, 3, H, W], and returns raw outputs; "
                "for boxes of a list of images call .eval() on it first"
            )
        batch = []
        for image in images:
            if image.ndim != 3 or image.shape[0] != 3:
                raise ModelError(f"ssd_resnet34: expected images [3, H, W], got {list(image.shape)}")
            mean, std = (image.new_tensor(x).view(3, 1, 1) for x in (_MEAN, _STD))
            batch.append(F.interpolate(((image - mean) / std)[None], self.image_size, mode="bilinear"))
        found = detections(self.raw(torch.cat(batch))) if batch else []
        for own, image in zip(found, images, strict=True):
            height, width = image.shape[1:]
            own["boxes"] = own["boxes"] * image.new_tensor((width, height, width, height))
        return found


def make_ssd_resnet34(
    num_classes: int,
    image_size: tuple[int, int],
    *,
    body: str = "resnet34",
    strides: Sequence[int] = STRIDES,
    maps: int = 6,
    scales: Sequence[float] = SCALES,
    score_threshold: float = DECODING.score_threshold,
    nms_threshold: float = DECODING.nms_threshold,
    candidates: int = DECODING.candidates,
    most_boxes: int = DECODING.most_boxes,
) -> SSDResNet34:
    """An SSD-ResNet34 with fresh weights; without options the one of MLPerf's inference benchmark, for 1200×1200.

    Args:
        body: resnet34 or resnet18.
        strides: of `loc`, of `conf`, and of all additional blocks but the last; for 256 to 384 pixels [1,1,2,2,2,1].
        maps: how many of the six maps there are, the finest first; fewer for smaller images.
        scales: sides of the prior boxes of each map as fractions of the image's, and one more, ascending.
        score_threshold, nms_threshold, candidates, most_boxes: as in `Decoding`.

    Raises:
        ModelError: an option's value is not possible.
        ConfigError: one that `Decoding` refuses.
    """
    if body not in BODIES:
        raise ModelError(f"model.options.body: no {body!r}{did_you_mean(str(body), BODIES)}")
    if not isinstance(maps, int) or not 1 <= maps <= len(_CHANNELS):
        raise ModelError(f"model.options.maps: expected 1 to {len(_CHANNELS)}, got {maps!r}")
    if len(strides) != len(STRIDES) or min(strides) < 1:
        raise ModelError(
            f"model.options.strides: expected {len(STRIDES)} whole numbers from 1, got {list(strides)}"
        )
    if strides[0] != strides[1]:
        raise ModelError(
            f"model.options.strides: the first two, of boxes and of scores, must be equal, got {list(strides)}"
        )
    if len(scales) <= maps or min(scales) <= 0 or list(scales) != sorted(scales):
        raise ModelError(
            f"model.options.scales: expected {maps + 1} positive numbers, ascending, got {list(scales)}"
        )
    return SSDResNet34(
        num_classes,
        image_size,
        depths=BODIES[body],
        strides=strides,
        maps=maps,
        scales=scales,
        decoding=replace(
            DECODING,
            score_threshold=score_threshold,
            nms_threshold=nms_threshold,
            candidates=candidates,
            most_boxes=most_boxes,
        ),
    )


def _check(size: int, maps: int, strides: Sequence[int]) -> None:
    left = -(-size // 8)
    for stride, padding in zip((*strides[2:], 1), _PADDING[: maps - 1], strict=False):
        left = (left + 2 * padding - 3) // stride + 1
    if left < 1:
        raise ModelError(
            f"ssd_resnet34: images of {size} pixels are too small for {maps} maps with strides {list(strides)}; "
            f"try another data.size, model.options.strides=[1,1,2,2,2,1], which is made for "
            f"300 pixels, or model.options.maps={maps - 1}"
        )


def _stage(inputs: int, width: int, depth: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(inputs, width, stride), *(BasicBlock(width, width, 1) for _ in range(depth - 1))
    )


def _make(config: ModelConfig, num_classes: int, shape: Shape) -> nn.Module:
    need_colour("ssd_resnet34", shape)
    return make_ssd_resnet34(num_classes, (shape[1], shape[2]), **config.options)


FAMILY = ModelFamily(
    name="ssd_resnet34",
    make=_make,
    task="detection",
    num_classes=80,  # those of COCO
    shape=(3, 1200, 1200),
)
