from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_networks import patterns, small_net

from bnas.errors import ExportError
from bnas.export import Onnx, export_verified
from bnas.plain import from_plain
from bnas.quantize import QuantizeConfig, quantize
from bnas.quantize.nncf_options import Ignored
from bnas.quantize.onnx_qdq import OnnxQdq, module_path

EXAMPLE = torch.zeros(1, 3, 16, 16)


def read_from(model: Any, kind: str) -> list[str]:
    """What made the inputs of each operation of that kind, weights among them."""
    maker = {output: node.op_type for node in model.graph.node for output in node.output}
    return [
        maker.get(name, "") for node in model.graph.node if node.op_type == kind for name in node.input[:2]
    ]


@pytest.fixture(scope="module")
def quantized() -> Any:
    return quantize(small_net(), OnnxQdq(samples=16), [patterns(32, seed=1)], EXAMPLE)


@pytest.mark.parametrize("batch", [1, None])
def test_onnxruntime_runs_it_in_int8(tmp_path: Path, quantized: Any, batch: int | None) -> None:
    net, images = small_net(), patterns(64, seed=2)
    config = Onnx(batch=batch, min_agreement_percent=90)
    artefact = export_verified(quantized, config, tmp_path / "int8.onnx", EXAMPLE, net, [images])
    assert (artefact.format, artefact.precision) == ("onnx", "int8")
    assert artefact.largest_difference is not None
    assert 1e-5 < artefact.largest_difference < 0.2
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(artefact.path, options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node)
    assert kinds["QLinearConv"] >= 2  # of three convolutions, those whose outputs are quantized as well
    got = np.concatenate([session.run(None, {"images": image[None].numpy()})[0] for image in images])
    with torch.no_grad():
        agreement = 100 * np.mean(got.argmax(1) == net(images).argmax(1).numpy())
    assert artefact.agreement_percent == agreement


def test_every_convolution_reads_what_was_quantized(quantized: Any) -> None:
    assert quantized.runtime == "onnx"
    assert set(read_from(quantized.model, "Conv")) == {"DequantizeLinear"}
    weights = [value for value in quantized.model.graph.initializer if len(value.dims) > 1]
    assert {value.data_type for value in weights} == {onnx.TensorProto.INT8}
    assert len(weights) == 4
    shape = quantized.model.graph.input[0].type.tensor_type.shape
    assert shape.dim[0].dim_param == "batch"  # any number of images


def test_modules_are_left_out_by_their_paths() -> None:
    config = OnnxQdq(samples=4, ignored=Ignored(names=("block",)))
    model = quantize(small_net(), config, [patterns(4)], EXAMPLE).model
    assert Counter(read_from(model, "Conv"))["DequantizeLinear"] == 2  # of the stem alone


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/layer1/layer1.0/conv1/Conv", "layer1.0.conv1"),
        ("/stem/stem.0/Conv", "stem.0"),
        ("/0/Conv", "0"),
        ("/0/0.1/0.1.2/Conv", "0.1.2"),
        ("/layer1/layer1.0/downsample/downsample.0/Conv", "layer1.0.downsample.0"),
        ("/Add", ""),
        ("Conv_3", ""),
    ],
)
def test_paths_of_modules_are_read_from_names(name: str, path: str) -> None:
    assert module_path(name) == path


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(ExportError, match="no calibration images"):
        quantize(small_net(), OnnxQdq(), [], EXAMPLE)
    with pytest.raises(ExportError, match="in training mode"):
        quantize(small_net().train(), OnnxQdq(), [patterns(2)], EXAMPLE)
    with pytest.raises(ExportError, match=r"quantize\.ignored\.scopes: onnx_qdq knows no scopes of NNCF 2"):
        quantize(small_net(), OnnxQdq(ignored=Ignored(scopes=("a/b",))), [patterns(2)], EXAMPLE)
    assert from_plain(QuantizeConfig, {"kind": "onnx_qdq", "samples": 8}) == OnnxQdq(samples=8)
