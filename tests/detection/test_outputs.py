from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from tiny_detector import tiny_detector
from torch import nn

from bnas.detection import Decoding, RawTensors, completing, decoding_of, deployed
from bnas.detection.postprocess import detections
from bnas.errors import ConfigError

Kind = Literal["sigmoid", "softmax"]


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("score_threshold", 1.5, "0 to 1"),
        ("nms_threshold", -0.1, "0 to 1"),
        ("candidates", 0, "at least 1"),
        ("most_boxes", 0, "at least 1"),
    ],
)
def test_options_out_of_range(option: str, value: Any, allowed: str) -> None:
    with pytest.raises(ConfigError, match=f"{option}: expected {allowed}, got {value}"):
        Decoding(scores="sigmoid", weights=(1, 1, 1, 1), **{option: value})


def test_what_is_deployed() -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    retina, ssd = tiny_detector("sigmoid").eval(), tiny_detector("softmax").eval()
    with torch.no_grad():
        logits, boxes = RawTensors(retina)(images)
        assert torch.equal(logits, retina(images).logits)
        assert torch.equal(boxes, retina(images).boxes)
        probabilities, _ = RawTensors(ssd)(images)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(probabilities.shape[:2]))
    assert torch.equal(probabilities.argmax(-1), ssd(images).logits.argmax(-1))


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_completed_tensors_are_decoded_alike(kind: Kind) -> None:
    """Given as arrays, as a runtime gives them, of more images than the example has."""
    detector = tiny_detector(kind).train()
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    complete = completing(detector, images[:1])
    assert detector.training
    detector.eval()
    with torch.no_grad():
        raw = detector(images)
        scores, boxes = deployed(raw)
    again = complete((scores.numpy(), boxes.numpy()))
    assert (again.levels, again.decoding) == (raw.levels, raw.decoding)
    for ours, theirs in zip(detections(again), detections(raw), strict=True):
        torch.testing.assert_close(ours["scores"], theirs["scores"])
        torch.testing.assert_close(ours["boxes"], theirs["boxes"])


def test_probabilities_of_zero_stay_finite() -> None:
    detector = tiny_detector("softmax")
    complete = completing(detector, torch.zeros(1, 3, 64, 64))
    count = len(complete((torch.zeros(1, 1, 4), torch.zeros(1, 1, 4))).anchors)
    scores = torch.zeros(1, count, 4)
    scores[..., 0] = 1
    scores[0, 5] = torch.tensor([0.0, 0.0, 1.0, 0.0])
    (found,) = detections(complete((scores, torch.zeros(1, count, 4))))
    assert found["labels"].tolist() == [1]
    assert found["scores"].tolist() == pytest.approx([1.0])


def test_what_is_a_detector() -> None:
    detector = tiny_detector()
    assert decoding_of(detector) is detector.decoding
    other = nn.Linear(2, 2)
    assert decoding_of(other) is None
    other.decoding = "greedy"
    assert decoding_of(other) is None
