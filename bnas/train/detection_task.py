"""What a detector is trained for, as functions over its raw outputs and a batch's boxes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from bnas.detection import RawDetections
from bnas.detection.coco import average_precision
from bnas.detection.losses import detection_losses
from bnas.errors import ConfigError, ModelError


def box_loss(outputs: Any, labels: Tensor, label_smoothing: float) -> Tensor:
    """The sum of the losses of classes and boxes.

    Raises:
        ModelError: the network is no detector.
        DataError: the labels are not its boxes.
        ConfigError: labels are to be smoothed.
    """
    if label_smoothing:
        raise ConfigError(f"label_smoothing: must be 0 with task 'detection', got {label_smoothing}")
    losses = detection_losses(_raw(outputs), labels)
    return losses["classification"] + losses["bbox_regression"]


def map_percent(results: Iterable[tuple[Any, Tensor]]) -> float:
    """COCO's average precision over the overlaps .50 … .95, in percent."""
    return average_precision((_raw(outputs), labels) for outputs, labels in results).map_percent


def map_details(results: Iterable[tuple[Any, Tensor]]) -> Mapping[str, float]:
    """The numbers of `AveragePrecision` by name, without those of sizes that no object has."""
    found = average_precision((_raw(outputs), labels) for outputs, labels in results)
    return {name: value for name, value in asdict(found).items() if value is not None}


def _raw(outputs: Any) -> RawDetections:
    if not isinstance(outputs, RawDetections):
        raise ModelError(
            "task: 'detection' needs a network that puts out bnas.detection.RawDetections for a batch of images, "
            f"got {type(outputs).__name__}; such are the models retinanet and ssd_resnet34"
        )
    return outputs
