from __future__ import annotations

import numpy as np
import pytest
import torch
from small_networks import patterns

from bnas.errors import ConfigError, ExportError
from bnas.quantize import NncfPTQ, calibration
from bnas.quantize.calibration import calibration_count, calibration_images

EXAMPLE = torch.zeros(1, 3, 16, 16)


def test_more_images_than_there_are_is_an_error_unless_nobody_asked() -> None:
    assert calibration_count(NncfPTQ(samples=40), 50) == 40
    assert calibration_count(NncfPTQ(), 50) == 50
    with pytest.raises(ConfigError, match=r"850 images .*the training set has 50; set quantize\.samples=50"):
        calibration_count(NncfPTQ(samples=850), 50)


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


def test_more_images_than_memory_has_room_for_lie_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [patterns(4), patterns(3)]
    inside = calibration_images(given, 6, EXAMPLE)
    monkeypatch.setattr(calibration, "MOST_IN_MEMORY", 6 * 3 * 16 * 16 * 4 - 1)
    outside = calibration_images(given, 6, EXAMPLE)
    assert all(isinstance(image, np.memmap) for image in outside)
    assert len(outside) == len(inside) == 6
    for image, wanted in zip(outside, inside, strict=True):
        assert not isinstance(wanted, np.memmap)
        np.testing.assert_array_equal(image, wanted)
