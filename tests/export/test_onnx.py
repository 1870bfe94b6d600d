from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_networks import patterns, small_net
from torch import Tensor, nn

from bnas.errors import ConfigError, ExportError
from bnas.export import Onnx, Quantized, export, export_verified, load
from bnas.plain import from_plain

EXAMPLE = torch.zeros(1, 3, 16, 16)


def by_onnxruntime(path: str | Path, images: Tensor) -> np.ndarray:
    """What ONNX Runtime itself makes of the file, without bnas."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]


@pytest.mark.parametrize(("batch", "first"), [(1, 1), (4, 4), (None, "batch")])
def test_onnxruntime_computes_what_the_module_computes(
    tmp_path: Path, batch: int | None, first: int | str
) -> None:
    net, images = small_net(), patterns(batch or 3)
    artefact = export_verified(net, Onnx(batch=batch), tmp_path / "net.onnx", EXAMPLE, net, [patterns(8)])
    assert (artefact.format, artefact.precision, artefact.agreement_percent) == ("onnx", "f32", 100)
    assert artefact.size_bytes == (tmp_path / "net.onnx").stat().st_size
    model = onnx.load(artefact.path)
    size = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert (size.dim_param or size.dim_value) == first
    with torch.no_grad():
        np.testing.assert_allclose(by_onnxruntime(artefact.path, images), net(images), atol=1e-5)
        torch.testing.assert_close(load(artefact.path)(patterns(8)), net(patterns(8)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("opset", [13, 20])
def test_the_opset_is_the_one_asked_for(tmp_path: Path, opset: int) -> None:
    net = small_net()
    artefact = export_verified(net, Onnx(opset=opset), tmp_path / "net.onnx", EXAMPLE, net, [patterns(4)])
    assert onnx.load(artefact.path).opset_import[0].version == opset


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"export\.opset: expected 13 to 20, got 12"):
        from_plain(Onnx, {"opset": 12}, "export")


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = [
        export(small_net(seed=seed), Onnx(), tmp_path / "net.onnx", EXAMPLE).digest for seed in (0, 0, 1)
    ]
    assert digests[0] == digests[1] != digests[2]


class Zeta(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.zeta(x, x)


def test_what_cannot_be_converted_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"torch cannot write the network as ONNX: .*aten::special_zeta"
    ) as error:
        export(Zeta().eval(), Onnx(), tmp_path / "net.onnx", EXAMPLE)
    assert "\n" not in str(error.value)
    with pytest.raises(ExportError, match=r"in training mode; call \.eval\(\)"):
        export(small_net().train(), Onnx(), tmp_path / "net.onnx", EXAMPLE)
    with pytest.raises(ExportError, match=r"onnx takes .* this one was quantized for openvino"):
        export(Quantized(model=None), Onnx(), tmp_path / "net.onnx", EXAMPLE)
    assert list(tmp_path.iterdir()) == []


def test_what_the_checker_refuses_is_not_written(tmp_path: Path) -> None:
    model = onnx.load(export(small_net(), Onnx(), tmp_path / "net.onnx", EXAMPLE).path)
    model.graph.node[0].op_type = "Konv"
    with pytest.raises(ExportError, match=r"onnx refuses the network: .*Konv"):
        export(Quantized(model=model, runtime="onnx"), Onnx(), tmp_path / "other.onnx", EXAMPLE)
    assert not (tmp_path / "other.onnx").exists()


def test_a_newer_opset_and_a_newer_form_are_said(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    model = onnx.load(export(small_net(), Onnx(), path, EXAMPLE).path)
    model.opset_import[0].version = 99
    path.write_bytes(model.SerializeToString())
    with pytest.raises(
        ExportError,
        match=r"net\.onnx: ONNX Runtime .* cannot load it: it is of opset 99, known are those up to",
    ):
        load(path)
    model.opset_import[0].version, model.ir_version = 17, 99
    path.write_bytes(model.SerializeToString())
    with pytest.raises(
        ExportError,
        match=r"net\.onnx: ONNX Runtime .* cannot load it: it is of IR version 99, known are those up to",
    ):
        load(path)


def test_a_file_that_is_cut_off_is_said(tmp_path: Path) -> None:
    path = Path(export(small_net(), Onnx(), tmp_path / "net.onnx", EXAMPLE).path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(
        ExportError, match=r"net\.onnx: ONNX Runtime .* cannot load it: it is cut off"
    ) as error:
        load(path)
    assert "\n" not in str(error.value)
