from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from small_networks import patterns, small_net
from torch import Tensor

from bnas.errors import ConfigError, ExportError
from bnas.quantize import NncfPTQ, quantize
from bnas.quantize.calibration import calibration_count, calibration_images, check_weights

EXAMPLE = torch.zeros(1, 3, 16, 16)


def test_more_images_than_there_are_is_an_error_unless_nobody_asked() -> None:
    assert calibration_count(NncfPTQ(samples=40), 50) == 40
    assert calibration_count(NncfPTQ(), 50) == 50
    with pytest.raises(ConfigError, match=r"850 images .*the training set has 50; set quantize\.samples=50"):
        calibration_count(NncfPTQ(samples=850), 50)


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("-inf"), "infinite numbers")])
@pytest.mark.parametrize("name", ["block.3.weight", "stem.1.running_var"])
def test_damaged_weights_are_named_before_anything_is_done(value: float, kind: str, name: str) -> None:
    net = small_net()
    check_weights(net)
    net.state_dict()[name].view(-1)[3] = value

    def images() -> Iterator[Tensor]:
        raise AssertionError("images were asked for")
        yield

    with pytest.raises(ExportError, match=rf"{name} holds {kind} \(1 of \d+ numbers\)"):
        quantize(net, NncfPTQ(), images(), EXAMPLE)


def test_images_are_checked() -> None:
    images = calibration_images([patterns(4).double(), patterns(4)], 5, EXAMPLE)
    assert [image.shape for image in images] == [(1, 3, 16, 16)] * 5
    assert {str(image.dtype) for image in images} == {"float32"}
    with pytest.raises(ExportError, match="calibration image 1 is 1×8×8, the network takes 3×16×16"):
        calibration_images([patterns(1), torch.zeros(2, 1, 8, 8)], 5, EXAMPLE)
    with pytest.raises(ExportError, match="calibration image 2 holds NaN"):
        calibration_images([patterns(2), patterns(1) * float("nan")], 5, EXAMPLE)
    with pytest.raises(ExportError, match="no calibration images"):
        calibration_images([], 5, EXAMPLE)
