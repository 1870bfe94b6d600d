from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_networks import patterns, small_net
from torch import Tensor, nn

from bnas.errors import ExportError
from bnas.export import (
    ExportConfig,
    Onnx,
    OpenVinoIR,
    TorchExport,
    TorchScript,
    export,
    load,
    openvino_runtime,
)
from bnas.export.run import SUFFIXES, takes_of

openvino = openvino_runtime.openvino()
EXAMPLE = torch.zeros(1, 3, 16, 16)
FORMATS = [(OpenVinoIR, "net.xml"), (Onnx, "net.onnx"), (TorchExport, "net.pt2"), (TorchScript, "net.ts")]


@pytest.mark.parametrize(("kind", "file"), FORMATS)
def test_every_format_runs_any_number_of_images(tmp_path: Path, kind: type[ExportConfig], file: str) -> None:
    net, images = small_net(), patterns(5)
    fixed = export(net, kind(batch=2), tmp_path / "fixed" / file, EXAMPLE).path
    free = export(net, kind(batch=None), tmp_path / "free" / file, EXAMPLE).path
    with torch.no_grad():
        wanted = net(images)
    for run in (load(fixed), load(fixed, batch=2), load(free), load(free, batch=4)):
        got = run(images)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)
    for wrong in (torch.zeros(1, 1, 16, 16), torch.zeros(1, 3, 16, 17), torch.zeros(3, 16, 16)):
        with pytest.raises(ExportError, match=r"takes images of shape \[n, 3, 16, 16\], got \[") as error:
            load(free)(wrong)
        assert str(error.value).startswith(free)


@pytest.mark.parametrize(("kind", "file"), FORMATS[1:])
def test_a_fixed_number_of_images_is_not_another(tmp_path: Path, kind: type[ExportConfig], file: str) -> None:
    path = export(small_net(), kind(batch=2), tmp_path / file, EXAMPLE).path
    with pytest.raises(ExportError, match="takes 2 images at once, it was asked to take 3"):
        load(path, batch=3)


def test_openvino_ir_is_reshaped(tmp_path: Path) -> None:
    net, images = small_net(), patterns(5)
    path = export(net, OpenVinoIR(batch=2), tmp_path / "net.xml", EXAMPLE).path
    with torch.no_grad():
        torch.testing.assert_close(load(path, batch=3)(images), net(images), atol=1e-5, rtol=1e-4)


def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "net.bin").write_bytes(b"0")
    with pytest.raises(
        ExportError, match=r"net\.bin: not a network that can be run; expected a file named \.xml, \.onnx"
    ):
        load(tmp_path / "net.bin")
    for suffix in SUFFIXES:
        with pytest.raises(ExportError, match="does not exist"):
            load(tmp_path / f"other{suffix}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExportError, match="empty cannot be read"):
        load(tmp_path / "empty")
    with pytest.raises(ExportError, match="batch: expected 1 or more"):
        load(tmp_path / "net.bin", batch=0)


def test_a_damaged_ir_is_said(tmp_path: Path) -> None:
    path = Path(export(small_net(), OpenVinoIR(), tmp_path / "net.xml", EXAMPLE).path)
    text, weights = path.read_text(), path.with_suffix(".bin").read_bytes()

    def refused(said: str) -> None:
        with pytest.raises(ExportError, match=said) as error:
            load(path)
        assert "\n" not in str(error.value)

    path.with_suffix(".bin").write_bytes(weights[:-8])
    refused(r"net\.xml cannot be read: net\.bin is cut off; export it again")
    path.with_suffix(".bin").unlink()
    refused(r"net\.xml cannot be read: net\.bin is missing; export it again")
    path.with_suffix(".bin").write_bytes(weights)
    path.write_text(text.replace('version="11"', 'version="99"', 1))
    refused(r"net\.xml is OpenVINO IR of version 99, OpenVINO \d+\.\d+\.\d+ reads versions 10 and 11")
    path.write_text(text[: len(text) // 2])
    refused(r"net\.xml cannot be read: ")
    path.write_text("")
    refused(r"net\.xml cannot be read: it is damaged, or no OpenVINO IR")


def test_a_network_with_two_inputs_is_refused(tmp_path: Path) -> None:
    ops = openvino.opset13
    first, second = (ops.parameter([1, 3], name=name) for name in ("first", "second"))
    model = openvino.Model([ops.add(first, second)], [first, second], "two")
    openvino.save_model(model, tmp_path / "two.xml")
    with pytest.raises(ExportError, match=r"two\.xml: expected a network with one input, it has 2"):
        load(tmp_path / "two.xml")


@pytest.mark.parametrize(
    ("shape", "layout", "taken", "last"),
    [
        ([-1, 224, 224, 3], "", (None, 3, 224, 224), True),  # as TensorFlow's networks come
        ([1, 28, 28, 1], "", (1, 1, 28, 28), True),
        ([1, 3, 8, 3], "", (1, 3, 8, 3), False),
        ([1, 3, 8, 3], "NHWC", (1, 3, 3, 8), True),
        ([1, 8, 8, 3], "NCHW", (1, 8, 8, 3), False),
        ([2, 5], "", (2, 5), False),
    ],
)
def test_where_the_channels_are(
    shape: list[int], layout: str, taken: tuple[int | None, ...], last: bool
) -> None:
    parameter = openvino.opset13.parameter(shape)
    if layout:
        parameter.set_layout(openvino.Layout(layout))
    found = takes_of(openvino.Model([openvino.opset13.relu(parameter)], [parameter], "net"))
    assert (found.shape, found.channels_last, found.u8) == (taken, last, False)


def test_what_fails_within_the_network_is_said(tmp_path: Path) -> None:
    class Pairs(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(2, -1, 3, 16, 16).sum((1, 2, 3, 4))

    path = tmp_path / "net.ts"
    export(Pairs().eval(), TorchScript(batch=None), path, EXAMPLE)
    with pytest.raises(ExportError, match=r"net\.ts cannot be run on images \[3, 3, 16, 16\]: ") as error:
        load(path)(torch.zeros(3, 3, 16, 16))
    assert "\n" not in str(error.value)


def test_a_network_of_tensorflow_is_run(tmp_path: Path) -> None:
    (tmp_path / "net.pb").write_text(
        """
        node { name: "x" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } } attr { key: "shape" value {
            shape { dim { size: -1 } dim { size: 4 } dim { size: 5 } dim { size: 3 } } } } }
        node { name: "axes" op: "Const" attr { key: "dtype" value { type: DT_INT32 } } attr { key: "value" value {
            tensor { dtype: DT_INT32 tensor_shape { dim { size: 2 } } int_val: 1 int_val: 2 } } } }
        node { name: "y" op: "Mean" input: "x" input: "axes" attr { key: "T" value { type: DT_FLOAT } }
            attr { key: "Tidx" value { type: DT_INT32 } } attr { key: "keep_dims" value { b: false } } }
        """
    )
    images = torch.randn(3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(load(tmp_path / "net.pb")(images), images.mean((2, 3)))
    with pytest.raises(
        ExportError, match=r"net\.pb takes images of shape \[n, 3, 4, 5\], got \[2, 4, 5, 3\]"
    ):
        load(tmp_path / "net.pb")(torch.zeros(2, 4, 5, 3))
