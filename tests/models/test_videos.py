from __future__ import annotations

import pytest
import torch

from bnas.models import FAMILIES, ModelConfig, load_model
from bnas.models.videos import video_names

DEFAULTS = {"mvit_v1_b": 224, "s3d": 224, "r3d_18": 112, "swin3d_t": 112}


def test_every_video_network_of_torchvision_is_a_family() -> None:
    assert {"r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v2_s", "swin3d_b"} <= set(video_names())
    assert all(FAMILIES[name].task == "video" for name in video_names())
    assert [FAMILIES[name].shape for name in DEFAULTS] == [(3, 16, side, side) for side in DEFAULTS.values()]


@pytest.mark.parametrize(
    ("shape", "expected"), [((3, 4, 32, 40), (1, 3, 4, 32, 40)), ((3, 32, 40), (1, 3, 16, 32, 40))]
)
def test_a_shape_may_leave_the_frames_out(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    model, (video,) = load_model(ModelConfig(name="mc3_18", weights="none"), num_classes=6, shape=shape)
    assert video.shape == expected
    with torch.no_grad():
        assert model(video).shape == (1, 6)
