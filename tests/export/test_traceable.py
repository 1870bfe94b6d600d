from __future__ import annotations

import copy
from typing import Literal

import pytest
import torch
from small_detectors import scenes, small_detector
from small_networks import small_net
from torch import Tensor

from bnas.detection import RawTensors
from bnas.export.traceable import traceable


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_of_a_detector_the_tensors_remain(scores: Literal["sigmoid", "softmax"]) -> None:
    net, images = small_detector(scores), scenes(2)
    with torch.no_grad():
        raw = net(images)
        found, boxes = traceable(net)(images)
    exponents = raw.logits.exp()
    wanted = exponents / exponents.sum(2, keepdim=True) if scores == "softmax" else raw.logits
    torch.testing.assert_close(found, wanted)
    assert torch.equal(boxes, raw.boxes)
    assert type(net(images)) is type(raw)  # the detector is what it was


def test_layers_are_the_detectors_and_called_so() -> None:
    net = small_detector()
    twin = traceable(net)
    own = dict(twin.named_modules())
    assert own.keys() == dict(net.named_modules()).keys()
    assert all(own[name] is layer for name, layer in net.named_modules() if name)
    assert type(twin).__name__ == type(net).__name__
    assert twin.state_dict().keys() == net.state_dict().keys()
    assert traceable(twin) is twin
    again = copy.deepcopy(twin)
    assert torch.equal(again(scenes(1))[1], twin(scenes(1))[1])


def test_other_networks_are_themselves() -> None:
    net = small_net()
    assert traceable(net) is net


def test_a_function_of_the_instances_own_is_called() -> None:
    net, images = small_detector(), scenes(1)
    usual = net.forward

    def doubled(images: Tensor) -> object:
        raw = usual(images)
        return raw._replace(boxes=2 * raw.boxes)

    net.forward = doubled  # type: ignore[method-assign,assignment]
    with torch.no_grad():
        _, boxes = traceable(net)(images)
        assert torch.equal(boxes, 2 * usual(images).boxes)
    assert isinstance(traceable(net), RawTensors)
    assert not traceable(net).training
