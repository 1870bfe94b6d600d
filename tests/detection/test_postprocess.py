from __future__ import annotations

import io
import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Literal

import pytest
import torch
from tiny_detector import SCALES, anchors_of, tiny_detector
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.ssd import SSD

from bnas.detection import Decoding, RawDetections
from bnas.detection.postprocess import WithNms, detections

WIDTH, HEIGHT = 320, 192
PIXELS = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT], dtype=torch.float32)
KINDS: tuple[Literal["sigmoid", "softmax"], ...] = ("sigmoid", "softmax")


def raw(decoding: Decoding, outputs: int, seed: int) -> RawDetections:
    anchors = [anchors_of(12, 20, SCALES[0]), anchors_of(6, 10, SCALES[1])]
    rng = torch.Generator().manual_seed(seed)
    levels = tuple(map(len, anchors))
    return RawDetections(
        2 * torch.randn(2, sum(levels), outputs, generator=rng) - float(decoding.scores == "sigmoid"),
        torch.randn(2, sum(levels), 4, generator=rng) * 0.3 * torch.tensor(decoding.weights),
        torch.cat(anchors),
        levels,
        decoding,
    )


def of_torchvision(raw: RawDetections) -> list[dict[str, Tensor]]:
    decoding, levels = raw.decoding, list(raw.levels)
    own = SimpleNamespace(
        score_thresh=decoding.score_threshold,
        nms_thresh=decoding.nms_threshold,
        topk_candidates=decoding.candidates,
        detections_per_img=decoding.most_boxes,
        box_coder=BoxCoder(decoding.weights),
    )
    anchors, shapes = raw.anchors * PIXELS, [(HEIGHT, WIDTH)] * 2
    if decoding.scores == "softmax":
        heads = {"cls_logits": raw.logits, "bbox_regression": raw.boxes}
        found = SSD.postprocess_detections(own, heads, [anchors] * 2, shapes)
        return [{**image, "labels": image["labels"] - 1} for image in found]
    parts = {"cls_logits": raw.logits.split(levels, 1), "bbox_regression": raw.boxes.split(levels, 1)}
    return RetinaNet.postprocess_detections(own, parts, [anchors.split(levels)] * 2, shapes)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"candidates": 40},
        {"most_boxes": 7},
        {"score_threshold": 0.6, "nms_threshold": 0.3},
        {"nms_threshold": 0.0, "score_threshold": 0.0},
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_as_torchvision_finds_them(kind: Literal["sigmoid", "softmax"], options: dict[str, float]) -> None:
    weights = (1.0, 1.0, 1.0, 1.0) if kind == "sigmoid" else (10.0, 10.0, 5.0, 5.0)
    own = raw(replace(Decoding(scores=kind, weights=weights), **options), 5, seed=1)
    found, expected = detections(own), of_torchvision(own)
    assert len(found) == 2
    for ours, theirs in zip(found, expected, strict=True):
        assert len(theirs["labels"]) > 3
        assert torch.equal(ours["labels"], theirs["labels"])
        torch.testing.assert_close(ours["scores"], theirs["scores"])
        torch.testing.assert_close(ours["boxes"] * PIXELS, theirs["boxes"], atol=1e-3, rtol=1e-5)


def test_many_classes_do_not_suppress_each_other() -> None:
    """One box of each of 264 classes on the same place; all stay, for a box of another class takes none away."""
    decoding = Decoding(scores="sigmoid", weights=(1, 1, 1, 1), nms_threshold=0.0)
    own = RawDetections(
        torch.linspace(1, 2, 264)[None, None],
        torch.zeros(1, 1, 4),
        torch.tensor([[0.0, 0, 1, 1]]),
        (1,),
        decoding,
    )
    (found,) = detections(own)
    assert sorted(found["labels"].tolist()) == list(range(264))
    assert torch.equal(found["boxes"], own.anchors.expand(264, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_above_the_threshold_is_nothing_found(kind: Literal["sigmoid", "softmax"]) -> None:
    own = raw(Decoding(scores=kind, weights=(1, 1, 1, 1), score_threshold=0.999), 5, seed=1)
    for found in detections(own._replace(logits=own.logits * 0)):
        assert found["boxes"].shape == (0, 4)
        assert found["scores"].shape == found["labels"].shape == (0,)


def test_outputs_that_are_no_numbers_find_nothing() -> None:
    own = raw(Decoding(scores="sigmoid", weights=(1, 1, 1, 1)), 5, seed=1)
    assert not len(detections(own._replace(logits=own.logits * torch.nan))[0]["labels"])


def shown(kind: Literal["sigmoid", "softmax"]) -> tuple[nn.Module, list[Tensor]]:
    """A detector that finds something in two images and nothing in a third, black one."""
    detector = tiny_detector(kind).eval()
    with torch.no_grad():
        for head in detector.scores:
            head.weight.mul_(100)
    detector.decoding = replace(detector.decoding, score_threshold=0.3)
    rng = torch.Generator().manual_seed(1)
    images = [torch.randn(1, 3, 64, 64, generator=rng) for _ in range(2)]
    return detector, [*images, torch.zeros(1, 3, 64, 64)]


def eager(detector: nn.Module, image: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        found = detections(detector(image))[0]
    return found["boxes"], found["scores"], found["labels"]


def check(exported: object, detector: nn.Module, images: list[Tensor]) -> None:
    counts = []
    for image in images:
        expected = eager(detector, image)
        got = [torch.as_tensor(own) for own in exported(image)]  # type: ignore[operator]
        counts.append(len(expected[1]))
        assert [tuple(own.shape) for own in got] == [tuple(own.shape) for own in expected]
        torch.testing.assert_close(got[0], expected[0], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(got[1], expected[1], atol=1e-4, rtol=1e-3)
        assert got[2].tolist() == expected[2].tolist()
    assert min(counts[:2]) > 2
    assert counts[2] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_exported_with_torch_export(kind: Literal["sigmoid", "softmax"]) -> None:
    detector, images = shown(kind)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "`create_unbacked_symint` is deprecated", FutureWarning
        )  # torchvision's
        program = torch.export.export(WithNms(detector, images[0]).eval(), (images[0],))
    check(program.module(), detector, images)


@pytest.mark.parametrize("kind", KINDS)
def test_converted_by_openvino(kind: Literal["sigmoid", "softmax"]) -> None:
    openvino = pytest.importorskip("openvino")
    detector, images = shown(kind)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer, about sizes that are the same for all images
        module = WithNms(detector, images[0]).eval()
        traced = torch.jit.trace(module, images[0], strict=False, check_trace=False)
        model = openvino.convert_model(traced, example_input=images[0], input=list(images[0].shape))
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    check(lambda image: compiled(image.numpy()).to_tuple(), detector, images)


@pytest.mark.parametrize("kind", KINDS)
def test_exported_to_onnx(kind: Literal["sigmoid", "softmax"]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    detector, images = shown(kind)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter about itself
        torch.onnx.export(WithNms(detector, images[0]).eval(), (images[0],), file, dynamo=False)
    session = onnxruntime.InferenceSession(file.getvalue())
    (given,) = session.get_inputs()
    check(lambda image: session.run(None, {given.name: image.numpy()}), detector, images)
