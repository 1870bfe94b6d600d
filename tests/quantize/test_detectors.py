"""Detectors in INT8, with the configuration for NNCF 2 of the published RetinaNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracles import randomize_norms
from small_detectors import scenes, small_detector
from tiny_detector import TinyDetector

from bnas import progress
from bnas.detection import decoding_of, deployed
from bnas.export import ExportConfig, Onnx, OpenVinoIR, TorchExport, export, export_verified, load_all
from bnas.export.openvino_runtime import read_network
from bnas.models.retinanet import make_retinanet
from bnas.quantize import NncfPTQ, NncfPTQFx, NncfPTQTorch, OnnxQdq, quantize
from bnas.quantize.nncf_extension import arithmetic
from bnas.quantize.nncf_options import Ignored, NncfOptions
from bnas.quantize.nncf_torch import quantized_module, to_openvino
from bnas.quantize.overflow import say_once
from bnas.quantize.placement import Placement
from bnas.quantize.preprocessing_scopes import without_preprocessing

PUBLISHED = """{
    "input_info": {
        "sample_size": [1, 3, 800, 800]
    },
    "compression": {
        "algorithm": "quantization",
        "overflow_fix": "disable",
        "ignored_scopes": [
            "RetinaNet/__sub___0",
            "RetinaNet/__truediv___0",
            "RetinaNet/__getitem___1",
            "RetinaNet/interpolate_0",
            "RetinaNet/__getitem___2"
        ],
        "initializer": {
            "range": {
              "num_init_samples": 3840,
            },
            "batchnorm_adaptation": {
                "num_bn_adaptation_samples": 0,
            }
        },
        "weights": {
            "mode": "symmetric",
            "signed": true,
            "per_channel": false
        },
        "activations": {"mode": "symmetric"}
     },
    "target_device": "CPU"
}"""
SCOPES = (
    "RetinaNet/__sub___0",
    "RetinaNet/__truediv___0",
    "RetinaNet/__getitem___1",
    "RetinaNet/interpolate_0",
    "RetinaNet/__getitem___2",
)
EXAMPLE = torch.zeros(1, 3, 64, 64)


@pytest.fixture
def published(tmp_path: Path) -> str:
    path = tmp_path / "nncf.json"
    path.write_text(PUBLISHED)
    return str(path)


def weights_of(model: Any) -> dict[str, list[str]]:
    """By the name of each convolution the operations between its weights and it, and the numbers of scales."""
    found = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Convolution", "GroupConvolution"):
            chain, source = [], node.input_value(1).get_node()
            while source.get_type_name() != "Constant":
                for port in range(1, source.get_input_size()):
                    chain.append(f"{source.get_type_name()} {source.input_value(port).get_node().data.size}")
                source = source.input_value(0).get_node()
            chain.append(source.get_element_type().get_type_name())
            found[node.get_friendly_name()] = chain
    return found


def test_a_retinanet_by_the_published_configuration(
    published: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make_retinanet(3, (64, 64), body="resnet18", width=16, towers=1, levels=["p3", "p4"])
    randomize_norms(net)
    with torch.no_grad():
        net.head.classification_head.cls_logits.weight.mul_(20)
    net.eval()
    assert NncfPTQ(nncf_config=published).samples == 3840
    say_once.cache_clear()
    progress.enable()
    try:
        quantized = quantize(net, NncfPTQ(nncf_config=published), [scenes(6)], EXAMPLE)
    finally:
        progress.enable(False)
    told = [line for line in capsys.readouterr().out.splitlines() if "ignored" in line]
    assert len(told) == 1
    assert all(scope in told[0] for scope in SCOPES)
    path = tmp_path / "int8.xml"
    artefact = export_verified(quantized, OpenVinoIR(), path, EXAMPLE, net, [scenes(6, seed=1)])
    assert artefact.precision == "int8"
    assert artefact.largest_difference is not None
    assert 1e-4 < artefact.largest_difference < 0.3
    model = read_network(path)
    weights = weights_of(model)
    convolutions = [own for own in net.modules() if isinstance(own, torch.nn.Conv2d)]
    assert len(weights) >= len(convolutions)  # those of the heads are called for each level
    assert all(chain == ["Multiply 1", "i8"] for chain in weights.values())  # one scale, no zero point
    ranges = [
        [float(np.asarray(node.input_value(port).get_node().data).reshape(-1)[0]) for port in (1, 2)]
        for node in model.get_ops()
        if node.get_type_name() == "FakeQuantize"
    ]
    assert len(ranges) > 10
    for low, high in ranges:
        assert low == 0 or low == pytest.approx(-high * 128 / 127, rel=1e-3)


@pytest.mark.parametrize(
    ("quantizer", "config", "file"),
    [
        (NncfPTQ, OpenVinoIR(), "int8.xml"),
        (NncfPTQ, OpenVinoIR(nms=True), "int8_nms.xml"),
        (NncfPTQTorch, OpenVinoIR(), "int8.xml"),
        (NncfPTQFx, TorchExport(), "int8.pt2"),
        (OnnxQdq, Onnx(), "int8.onnx"),
    ],
)
def test_every_format_in_int8_finds_the_same_boxes(
    published: str, tmp_path: Path, quantizer: type[NncfOptions], config: ExportConfig, file: str
) -> None:
    net, images = small_detector(), scenes(12, seed=1)
    asked = quantizer(nncf_config=published, samples=12)
    quantized = quantize(net, asked, [scenes(12)], EXAMPLE)
    artefact = export_verified(quantized, config, tmp_path / file, EXAMPLE, net, [images])
    assert artefact.agreement_percent is not None
    assert 80 < artefact.agreement_percent < 100  # it is INT8 that runs, and the same detector


def test_names_of_pre_processing_are_left_out() -> None:
    net = small_detector()
    others = ("RetinaNet/Sequential[stem]/NNCFConv2d[0]/conv2d_0", "RetinaNet/cat_0", "{re}__sub__", "wrong")
    inner = ("RetinaNet/GeneralizedRCNNTransform[transform]/interpolate_0", "SSD/Transform[transform]")
    ignored = Ignored(names=("stem",), scopes=(*SCOPES, *others, *inner))
    assert without_preprocessing(ignored, net) == Ignored(names=("stem",), scopes=others)
    assert without_preprocessing(Ignored(scopes=others), net) == Ignored(scopes=others)
    classifier = torch.nn.Identity()
    assert without_preprocessing(ignored, classifier) is ignored


def test_rules_name_layers_as_in_the_detector() -> None:
    net = small_detector()
    for ignored in (
        Ignored(names=("coarse",)),
        Ignored(scopes=("TinyDetector/Sequential[coarse]/NNCFConv2d[0]/conv2d_0",)),
    ):
        model = quantize(net, NncfPTQ(samples=4, ignored=ignored), [scenes(4)], EXAMPLE).model
        whole = [name for name, chain in weights_of(model).items() if chain == ["f32"]]
        (node,) = [own for own in model.get_ops() if own.get_friendly_name() in whole]
        assert list(node.output(0).shape) == [1, 16, 4, 4]  # as no other convolution's
    quantized = quantize(
        net, NncfPTQ(samples=4), [scenes(4)], EXAMPLE, precisions={"": "int8_channel", "stem": "fp32"}
    )
    assert {own for name, own in quantized.operations.items() if "stem" in name} == {"fp32"}


def test_quantizers_are_placed_for_timing_as_nncf_places_them() -> None:
    place, kinds = Placement(NncfPTQ()), []
    for width in (16, 24):
        torch.manual_seed(0)
        net = TinyDetector(width=width).eval()
        model = place.quantize(net, EXAMPLE).model
        wanted = quantize(net, NncfPTQ(samples=2), [scenes(2)], EXAMPLE).model
        for own in (model, wanted):
            kinds.append(sorted(node.get_type_name() for node in own.get_ops()))
        assert kinds[-1].count("FakeQuantize") == kinds[-2].count("FakeQuantize") > 3
        assert len(model.outputs) == 2
    assert place.by_nncf == 1


def test_quantizers_that_are_trained_leave_a_detector(tmp_path: Path) -> None:
    """What trains them is the loss of a detector; what is deployed of it are its tensors."""
    net, images = small_detector("softmax"), scenes(6, seed=1)
    quantized = quantized_module(net, NncfPTQTorch(samples=12), [scenes(12)], EXAMPLE)
    with torch.no_grad(), arithmetic("cpu", "never"):
        raw = quantized(images)
        wanted = deployed(raw)
    assert torch.equal(raw.anchors, net(images).anchors)
    assert decoding_of(quantized) == net.decoding
    path = export(to_openvino(quantized, EXAMPLE), OpenVinoIR(), tmp_path / "int8.xml", EXAMPLE).path
    assert len(weights_of(read_network(path))) > 4
    for ours, theirs in zip(load_all(path)(images), wanted, strict=True):
        assert float((ours - theirs).abs().mean()) < 0.02 * float(theirs.abs().max())
