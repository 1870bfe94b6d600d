"""Decoding and non-maximum suppression behind a detector, built into its OpenVINO network."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from bnas.detection import RawDetections, completing
from bnas.detection.postprocess import detections
from bnas.errors import ExportError
from bnas.export.openvino_runtime import last_line, openvino, without_telemetry

OUTPUTS = ("boxes", "scores", "labels")


class _Suppression(nn.Module):
    """A deployed detector's tensors for one image to its boxes, as `detections` finds them."""

    def __init__(self, complete: Callable[[Sequence[Tensor]], RawDetections]) -> None:
        super().__init__()
        self._complete = complete

    def forward(self, scores: Tensor, regressions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = detections(self._complete((scores, regressions)))[0]
        boxes, own, labels = (found[name] for name in OUTPUTS)
        return boxes, own, labels


def build_in_nms(network: Any, detector: nn.Module, example: Tensor) -> Any:
    """`network` (an `openvino.Model` of `RawTensors(detector)` for one image, which is changed) with what follows.

    Its outputs are then "boxes" [k, 4], x1, y1, x2, y2 as fractions of the image, "scores" [k] and "labels" [k], of
    the k boxes that are found in the image. `example` is one input [1, C, H, W], for whose size the anchors are.

    Raises:
        ExportError: OpenVINO cannot convert it.
    """
    shapes = [list(output.partial_shape.to_shape()) for output in network.outputs]
    given = tuple(torch.rand(shape) for shape in shapes)
    with torch.no_grad(), without_telemetry(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", FutureWarning)
        warnings.simplefilter("ignore", TracerWarning)
        try:
            suppression = _Suppression(completing(detector, example[:1]))
            traced: Any = torch.jit.trace(suppression, given, strict=False, check_trace=False)  # type: ignore[no-untyped-call]
            after = openvino().convert_model(traced, example_input=given, input=shapes)
        except Exception as error:  # neither torch nor OpenVINO has a common class of errors
            raise ExportError(
                f"export.nms: OpenVINO cannot convert the suppression of boxes: {last_line(error)}"
            ) from error
    for parameter, result in zip(after.get_parameters(), network.get_results(), strict=True):
        for reader in parameter.output(0).get_target_inputs():
            reader.replace_source_output(result.input_value(0))
    for output, name in zip(after.outputs, OUTPUTS, strict=True):
        output.get_tensor().set_names({name})
    return openvino().Model(after.get_results(), network.get_parameters(), "network")


def found_in(outputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """The outputs of such a network for one image as `detections` gives them."""
    found = dict(zip(OUTPUTS, outputs, strict=True))
    return found | {"labels": found["labels"].long()}
