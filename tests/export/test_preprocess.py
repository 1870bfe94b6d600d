"""Pre-processing built in, on real images: what a network sees of them is worked out here by NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import randomize_norms
from small_networks import SmallNet
from torch import Tensor, nn

from bnas.data import DataConfig, load_data
from bnas.data.embedded import FOLDER
from bnas.data.idx import read_idx
from bnas.errors import ConfigError, ExportError
from bnas.export import (
    OpenVinoIR,
    Preprocess,
    Quantized,
    export,
    export_verified,
    load,
    openvino_runtime,
    verify,
)
from bnas.plain import from_plain, to_plain

openvino = openvino_runtime.openvino()
SEED = Preprocess(  # of the seed's mo_params and mo_flags
    mean_values=(123.675, 116.28, 103.53),
    scale_values=(58.395, 57.12, 57.375),
    reverse_input_channels=True,
    layout="NHWC",
)
GREY = Preprocess(mean_values=(0.2860 * 255,), scale_values=(0.3530 * 255,))
COUNT = 64


def bytes_of(count: int = COUNT) -> np.ndarray:
    """Stored images, uint8 [n, 28, 28]."""
    return read_idx(FOLDER / "t10k-images-idx3-ubyte.gz", axes=3)[:count].copy()


def coloured(grey: np.ndarray) -> np.ndarray:
    """Three channels that differ, uint8 [n, 28, 28, 3], as a camera's BGR."""
    return np.stack([grey, 255 - grey, grey // 2], axis=-1)


def network(channels: int) -> nn.Module:
    """A `SmallNet` for so many channels, on images of 28 × 28."""
    torch.manual_seed(0)
    net = SmallNet()
    net.stem[0] = nn.Conv2d(channels, 16, 3, padding=1)
    return randomize_norms(net, 0).eval()


def quantized(net: nn.Module, images: Tensor) -> Quantized:
    from bnas.quantize import NncfPTQ, quantize

    return quantize(net, NncfPTQ(samples=16), [images], images[:1])


@pytest.mark.parametrize("precision", ["f32", "int8"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_top1_with_and_without(tmp_path: Path, channels: int, precision: str) -> None:
    """Bytes into one file, normalised floats into the other: the same class, image by image."""
    grey = bytes_of()
    if channels == 3:
        stored = coloured(grey)
        rgb = stored[..., ::-1].astype(np.float64)
        floats = (rgb / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
        preprocess = SEED
    else:
        stored = grey[:, None]
        floats = (grey[..., None] / 255 - 0.2860) / 0.3530
        preprocess = GREY
    images = torch.from_numpy(floats.transpose(0, 3, 1, 2).astype(np.float32))
    net = network(channels)
    model = net if precision == "f32" else quantized(net, images)
    plain = export(model, OpenVinoIR(batch=COUNT), tmp_path / "plain.xml", images)
    baked = export(model, OpenVinoIR(batch=COUNT, preprocess=preprocess), tmp_path / "baked.xml", images)
    assert baked.preprocess == preprocess
    compiled = [
        openvino.Core().compile_model(file.path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for file in (plain, baked)
    ]
    assert compiled[1].input(0).element_type == openvino.Type.u8
    without, within = compiled[0](images.numpy())[0], compiled[1](stored)[0]
    assert len(set(without.argmax(1).tolist())) > 1
    np.testing.assert_array_equal(within.argmax(1), without.argmax(1))
    if precision == "f32":
        np.testing.assert_allclose(within, without, atol=1e-4 * np.abs(without).max())


def test_a_network_with_preprocessing_is_verified_on_stored_images(tmp_path: Path) -> None:
    data = load_data(DataConfig(val_images=100, channels=3))
    images, _ = data.val.batch(range(20))
    net, config = network(3), OpenVinoIR(preprocess=Preprocess().completed((0.2860,), (0.3530,)))
    artefact = export_verified(net, config, tmp_path / "net.xml", images, net, [images])
    assert artefact.largest_difference is not None
    assert artefact.largest_difference < 1e-5
    wrong = OpenVinoIR(preprocess=Preprocess(mean_values=(0.286,), scale_values=(0.353,)))
    other = export(net, wrong, tmp_path / "other.xml", images)
    from dataclasses import replace

    with pytest.raises(ExportError, match="its outputs differ"):
        verify(replace(other, preprocess=config.preprocess), net, [images])
    with pytest.raises(ExportError, match="takes whole pixel values from 0 to 255"):
        load(artefact.path)(images)


def test_stored_is_the_inverse_of_applied() -> None:
    raw = torch.from_numpy(coloured(bytes_of(3))).permute(0, 3, 1, 2).float()
    assert torch.equal(SEED.stored(SEED.applied(raw)), raw)
    wanted = (raw.flip(1).numpy() - np.reshape(SEED.mean_values, (1, 3, 1, 1))) / np.reshape(
        SEED.scale_values, (1, 3, 1, 1)
    )
    np.testing.assert_allclose(SEED.applied(raw), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["nearest", "linear", "cubic"])
def test_an_input_of_any_size_is_resized(tmp_path: Path, method: str) -> None:
    net, example = network(1), torch.zeros(1, 1, 28, 28)
    preprocess = from_plain(Preprocess, {**to_plain(GREY), "resize": method})
    artefact = export(net, OpenVinoIR(preprocess=preprocess), tmp_path / "net.xml", example)
    raw = torch.from_numpy(bytes_of(4))[:, None].float()
    large = torch.nn.functional.interpolate(raw, (56, 84), mode="nearest")
    mode = {"nearest": "nearest-exact", "linear": "bilinear", "cubic": "bicubic"}[method]
    small = torch.nn.functional.interpolate(large, (28, 28), mode=mode)
    with torch.no_grad():
        wanted = net(GREY.applied(small))
        torch.testing.assert_close(load(artefact.path)(large), wanted, atol=1e-3, rtol=1e-3)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    net, example = network(1), torch.zeros(1, 1, 28, 28)
    for options, said in (
        ({}, r"export\.preprocess\.mean_values: expected 1 numbers, got none"),
        (
            {"mean_values": (1.0, 2.0), "scale_values": (1.0,)},
            "expected 1 numbers, or one, got 2",
        ),
        (
            {"mean_values": (1.0,), "scale_values": (1.0,), "reverse_input_channels": True},
            r"reverse_input_channels: expected 3 channels, the network has 1",
        ),
    ):
        with pytest.raises(ExportError, match=said):
            export(net, OpenVinoIR(preprocess=Preprocess(**options)), tmp_path / "net.xml", example)
    with pytest.raises(
        ConfigError, match=r"export\.preprocess\.scale_values: expected numbers above 0, got 0"
    ):
        from_plain(OpenVinoIR, {"preprocess": {"scale_values": [0.0]}}, "export")
    with pytest.raises(ExportError, match="'from_data' is for runs"):
        export(net, from_plain(OpenVinoIR, {"preprocess": "from_data"}), tmp_path / "net.xml", example)
    assert list(tmp_path.iterdir()) == []


def test_the_input_shape_is_the_one_asked_for(tmp_path: Path) -> None:
    net, example = network(1), torch.zeros(1, 1, 28, 28)
    config = OpenVinoIR(input_shape=(2, 1, 40, 40))
    path = export(net, config, tmp_path / "net.xml", example).path
    assert list(openvino.Core().read_model(path).inputs[0].shape) == [2, 1, 40, 40]
    with pytest.raises(ExportError, match=r"takes images of shape \[n, 1, 40, 40\], got \[1, 1, 28, 28\]"):
        load(path)(example)
    with pytest.raises(
        ExportError, match=r"export\.input_shape: the network, made for \[1,1,28,28\], does not take"
    ):
        export(net, OpenVinoIR(input_shape=(1, 3, 28, 28)), tmp_path / "net.xml", example)
    with pytest.raises(ConfigError, match=r"export\.input_shape: expected \[n, C, H, W\]"):
        from_plain(OpenVinoIR, {"input_shape": [0, 3, 8, 8]}, "export")
