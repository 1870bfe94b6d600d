from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import patterns, small_net
from torch import Tensor, nn

from bnas.errors import MeasureError
from bnas.export import Quantized
from bnas.measure import BACKENDS, HwConfig
from bnas.measure.backends import onnxruntime as backend
from bnas.measure.backends.onnx_form import to_int8, to_onnx
from bnas.quantize import NncfPTQ

EXAMPLE = torch.zeros(1, 3, 16, 16)
INT8 = HwConfig(backend="onnxruntime", threads=1)
F32 = HwConfig(backend="onnxruntime", precision="f32", threads=1)


class Transposed(nn.Module):
    """A transposed convolution, a product with weights, a product of activations, and a clip."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 8, 2, stride=2)
        self.mix = nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self.up(x)).mean(2)
        x = self.mix(x)
        return (x @ x.transpose(1, 2)).flatten(1)


def by_the_tool(module: nn.Module, images: Tensor, folder: Path) -> Any:
    """The network as ONNX Runtime's users quantize it: calibrated on images, a scale found for each channel."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = [{"images": image[None].numpy()} for image in images]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    onnx.save(to_onnx(module, images[:1]), folder / "f32.onnx")
    quantize_static(
        folder / "f32.onnx", folder / "int8.onnx", Reader(), per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    return onnx.load(folder / "int8.onnx")


def fused(model: Any, folder: Path) -> Counter[str]:
    """What the session really runs, after all fusions."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "fused.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "fused.onnx").graph.node)


@pytest.mark.parametrize("net", [small_net(), Transposed().eval()], ids=["SmallNet", "Transposed"])
def test_made_up_ranges_give_the_network_that_calibration_gives(net: nn.Module, tmp_path: Path) -> None:
    ours, theirs = to_int8(to_onnx(net, EXAMPLE)), by_the_tool(net, patterns(4), tmp_path)
    shapes = [
        Counter(
            (value.data_type, tuple(value.dims))
            for node in model.graph.node
            for value in model.graph.initializer
            if node.op_type == "DequantizeLinear" and value.name in node.input
        )
        for model in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]  # of weights, scales and zero points
    found = fused(ours, tmp_path)
    assert found == fused(theirs, tmp_path)
    assert any(kind.startswith("QLinear") for kind in found)


def test_int8_answers_are_rough_but_not_noise() -> None:
    net, images = small_net(), patterns(4)
    network = BACKENDS["onnxruntime"].deploy(INT8, NncfPTQ())(net, EXAMPLE)
    got = backend.prepare(network, INT8, None).predict(images)
    with torch.no_grad():
        wanted = net(images)
    assert torch.isfinite(got).all()
    assert 1e-4 < float((got - wanted).abs().max() / wanted.abs().max()) < 2


def test_the_session_has_the_threads_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    if not Path("/proc/self/task").exists():
        pytest.skip("threads are counted in /proc")
    monkeypatch.setattr("bnas.measure.hardware.logical_cores", lambda: 4)
    before = threads()
    for count in (1, 3):
        hw = HwConfig(backend="onnxruntime", precision="f32", threads=count)
        runner = backend.prepare(small_net(), hw, EXAMPLE)
        assert threads() - before == count - 1  # the thread that asks computes too
        del runner
    hw = HwConfig(backend="onnxruntime", precision="f32", threads=4, scenario="throughput", streams=2)
    queue = backend.prepare(small_net(), hw, EXAMPLE)
    assert threads() - before == 2 * (2 - 1) + 2
    assert queue.inferences == 2 * backend.PER_STREAM
    hw = HwConfig(backend="onnxruntime", precision="f32", threads=2, scenario="throughput", streams=3)
    with pytest.raises(MeasureError, match=r"hw\.streams: expected at most one for each of 2 threads, got 3"):
        backend.prepare(small_net(), hw, EXAMPLE)


def test_what_does_not_run_is_said(tmp_path: Path) -> None:
    class Eigen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.eigvals(x).abs()

    with pytest.raises(MeasureError, match=r"ONNX: Exporting the operator 'aten::linalg_eigvals'"):
        to_onnx(Eigen().eval(), EXAMPLE)
    with pytest.raises(MeasureError, match="training mode"):
        backend.prepare(small_net().train(), F32, EXAMPLE)
    with pytest.raises(MeasureError, match=r"net\.onnx does not exist"):
        backend.prepare(tmp_path / "net.onnx", F32, None)
    (tmp_path / "net.onnx").write_bytes(b"<net>")
    with pytest.raises(MeasureError, match=r"net\.onnx: ONNX Runtime cannot run this network"):
        backend.prepare(tmp_path / "net.onnx", F32, None)


def test_an_operation_that_the_runtime_lacks_is_named() -> None:
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("images", "out")]
    node = helper.make_node("Frobnicate", ["images"], ["out"], domain="my.own")
    graph = helper.make_graph([node], "net", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.own", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    with pytest.raises(MeasureError, match="Frobnicate"):
        backend.prepare(Quantized(model=model, precision="f32"), F32, None)


def test_a_network_with_its_batch_built_in_is_said() -> None:
    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x.mean((2, 3)), torch.ones(1, 2)], 1)

    hw = HwConfig(backend="onnxruntime", precision="f32", threads=1, batch=3)
    with pytest.raises(MeasureError, match="ONNX Runtime cannot run this network"):
        backend.prepare(One().eval(), hw, EXAMPLE)


def test_equal_constants_are_constants_of_their_own(tmp_path: Path) -> None:
    """The exporter writes equal biases once; that of a convolution and one that is added are quantized differently."""

    class Zeros(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1), nn.Linear(16, 16)])
            for layer in self.layers:
                nn.init.zeros_(layer.bias)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    model = to_onnx(Zeros().eval(), EXAMPLE)
    assert not [node for node in model.graph.node if node.op_type == "Identity"]
    assert fused(to_int8(model), tmp_path)["QLinearConv"] == 2
