"""Oracles 1–6 on SSD-ResNet34: what holds of classifiers holds of its raw outputs."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor

from bnas.detection import RawTensors
from bnas.graph import ChannelGraph, at_resolutions, trace
from bnas.models.ssd_resnet34 import SSDResNet34, make_ssd_resnet34
from bnas.space import SearchSpace, SpaceRules, derive_space, resized
from bnas.supernet import Supernet, extract_subnet, prove

RULES = SpaceRules(dims=("resolution", "depth", "width"), resolutions=(64, 96))


@cache
def made() -> tuple[SSDResNet34, tuple[Tensor, ...], ChannelGraph, SearchSpace]:
    torch.manual_seed(0)
    model = make_ssd_resnet34(3, (96, 96), body="resnet18", strides=(1, 1, 2, 2, 2, 1), maps=4).eval()
    inputs = (torch.randn(2, 3, 96, 96),)
    oracles.randomize_norms(model)
    graph = at_resolutions(model, inputs, trace(model, inputs), [64])
    return model, inputs, graph, derive_space(graph, RULES)


def test_what_is_elastic() -> None:
    model, _, graph, space = made()
    assert space.dims == ("resolution", "depth", "width")
    by_name = {choice.name: choice.values for choice in space.choices}
    assert by_name["resolution"] == (64, 96)
    assert by_name["model.layer1.4.depth"] == (0, 1, 2)
    for place in range(3):  # the maps too, which a head and the next block read
        assert f"additional_blocks.{place}.0.width" in by_name
        assert f"additional_blocks.{place}.2.width" in by_name
    outputs = {name for name, _ in model.named_modules() if name.startswith(("loc.", "conf."))}
    frozen = {group.name for group in graph.groups if not group.free}
    assert not outputs & {name.rpartition(".")[0] for name in by_name}
    assert frozen


def test_every_promise_of_the_builder() -> None:
    """Of scores and regressions, as they are deployed."""
    detector, inputs, _, _ = made()
    model = RawTensors(detector).eval()
    graph = at_resolutions(model, inputs, trace(model, inputs), [64])
    space = derive_space(graph, RULES)
    supernet = Supernet(copy.deepcopy(model), graph, space)
    rng = np.random.default_rng(0)
    for config in (space.smallest, space.sample(rng), space.sample(rng)):
        scaled = tuple(resized(own, config.values["resolution"]) for own in inputs)
        oracles.check_extraction(model, supernet, config, scaled)
        oracles.check_costs(supernet, config, scaled)
    oracles.check_largest(model, supernet, inputs)
    oracles.check_gradients(supernet, space.smallest, (resized(inputs[0], 64),))
    oracles.check_reordering(supernet, inputs)


def test_it_is_proved_as_it_is() -> None:
    model, inputs, graph, space = made()
    supernet = Supernet(copy.deepcopy(model), graph, space)
    assert prove(supernet, inputs).refused == ()


def test_a_subnet_is_a_detector_of_the_same_class() -> None:
    model, inputs, graph, space = made()
    supernet = Supernet(copy.deepcopy(model), graph, space)
    subnet = extract_subnet(supernet, space.smallest)
    assert type(subnet) is SSDResNet34
    assert subnet.decoding == model.decoding
    assert (
        sum(own.numel() for own in subnet.parameters()) < sum(own.numel() for own in model.parameters()) / 3
    )
    with torch.no_grad():
        raw, whole = subnet(inputs[0]), model(inputs[0])
        scores, boxes = RawTensors(subnet)(inputs[0])
    assert torch.equal(raw.anchors, whole.anchors)
    assert raw.levels == whole.levels
    assert raw.logits.shape == whole.logits.shape
    assert torch.equal(boxes, raw.boxes)
    torch.testing.assert_close(scores, raw.logits.softmax(-1))
    assert (subnet.image_size, model.image_size) == ((64, 64), (96, 96))
    for found in subnet([torch.rand(3, 50, 70)]):
        assert set(found) == {"boxes", "scores", "labels"}


@pytest.mark.parametrize("size", [64, 96])
def test_onnx_of_a_subnet_gives_what_torch_gives(size: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from bnas.export.onnx import to_onnx

    model, _, graph, space = made()
    subnet = extract_subnet(Supernet(copy.deepcopy(model), graph, space), space.smallest)
    images = torch.randn(2, 3, size, size)
    network = to_onnx(RawTensors(subnet).eval(), images)
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = RawTensors(subnet)(images)
    found = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    for own, known in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(own), known, rtol=1e-4, atol=1e-4)
