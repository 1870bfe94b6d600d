from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from small_detectors import scenes, small_detector
from small_networks import small_net

from bnas.detection.postprocess import detections
from bnas.errors import ConfigError, ExportError
from bnas.export import (
    OpenVinoIR,
    Preprocess,
    Quantized,
    convert,
    export,
    export_verified,
    load_all,
    openvino_runtime,
    verify,
)

EXAMPLE = torch.zeros(1, 3, 64, 64)
NMS = OpenVinoIR(nms=True)


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_boxes_are_those_that_torch_finds(tmp_path: Path, scores: Literal["sigmoid", "softmax"]) -> None:
    net, images = small_detector(scores), scenes(5)
    artefact = export_verified(net, NMS, tmp_path / "net.xml", EXAMPLE, net, [images])
    assert (artefact.nms, artefact.largest_difference, artefact.agreement_percent) == (True, None, 100)
    run = load_all(artefact.path)
    with torch.no_grad():
        every = detections(net(images))
    for image, wanted in zip(images, every, strict=True):
        boxes, own, labels = run(image[None])
        torch.testing.assert_close(own, wanted["scores"], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(boxes, wanted["boxes"], atol=1e-5, rtol=1e-4)
        assert torch.equal(labels.long(), wanted["labels"])


def test_an_image_may_have_none(tmp_path: Path) -> None:
    net = small_detector()
    with torch.no_grad():
        for own in net.scores:
            own.bias.fill_(-50)
    artefact = export_verified(net, NMS, tmp_path / "net.xml", EXAMPLE, net, [scenes(2)])
    assert artefact.agreement_percent is None
    assert [tuple(own.shape) for own in load_all(artefact.path)(scenes(1))] == [(0, 4), (0,), (0,)]


def test_outputs_have_names_and_a_quantized_network_its_own_detector(tmp_path: Path) -> None:
    net = small_detector()
    quantized = Quantized(model=convert(net, EXAMPLE), detector=net)
    config = OpenVinoIR(nms=True, preprocess=Preprocess(mean_values=(120,), scale_values=(60,)))
    artefact = export_verified(quantized, config, tmp_path / "net.xml", EXAMPLE, net, [scenes(3)])
    assert (artefact.precision, artefact.agreement_percent) == ("int8", 100)
    model = openvino_runtime.read_network(artefact.path)
    assert [output.any_name for output in model.outputs] == ["boxes", "scores", "labels"]
    assert len(quantized.model.outputs) == 2  # is left as it was


def test_other_boxes_are_refused(tmp_path: Path) -> None:
    net, other = small_detector(), small_detector()
    other.decoding = replace(net.decoding, nms_threshold=0.9)
    artefact = export(other, NMS, tmp_path / "net.xml", EXAMPLE)
    with pytest.raises(
        ExportError, match=r"its boxes are those of the torch module for \d+\.\d % of \d+ boxes in 3"
    ):
        verify(artefact, net, [scenes(3)])
    with pytest.raises(ExportError, match="no images"):
        verify(artefact, net, [])


def test_what_cannot_be(tmp_path: Path) -> None:
    for options, text in (
        ({"batch": 2}, "nms: boxes are found in one image at a time, set batch=1; got 2"),
        ({"batch": None}, "set batch=1; got None"),
        ({"input_shape": (1, 3, 64, 64)}, "input_shape: expected null with nms"),
    ):
        asked: dict[str, Any] = {**options}
        with pytest.raises(ConfigError, match=text):
            OpenVinoIR(nms=True, **asked)
    with pytest.raises(ExportError, match=r"export\.nms: the network is no detector; set nms=false"):
        export(small_net(), NMS, tmp_path / "net.xml", torch.zeros(1, 3, 16, 16))
    with pytest.raises(ExportError, match="no detector"):
        export(Quantized(model=convert(small_detector(), EXAMPLE)), NMS, tmp_path / "net.xml", EXAMPLE)
