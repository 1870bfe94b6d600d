from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from elastic_networks import tiny_resnet
from oracles import run
from small_networks import small_net
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.models import mobilenet_v3_small, resnet18

from bnas.errors import ExportError
from bnas.export import OpenVinoIR, Quantized, export
from bnas.export.openvino_runtime import compile_network, run_network
from bnas.graph import trace
from bnas.quantize import NncfPTQ, QuantizeConfig, quantize, quantizer
from bnas.quantize import placement as placing
from bnas.quantize.config import QUANTIZERS
from bnas.quantize.mixed import convert_mixed
from bnas.quantize.placement import Placement
from bnas.space import PRECISIONS, Precisions, derive_space
from bnas.space.precision import parts_of

CONFIG = NncfPTQ(samples=8)
EXAMPLE = torch.zeros(1, 1, 32, 32)
IMAGES = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
MIXED: Precisions = {
    "": "int8_channel", "layer1.0": "int8_tensor", "layer1.1": "fp32", "layer2.0": "fp32", "layer2.1": "int8_channel",
}  # fmt: skip


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return tiny_resnet().eval()


@pytest.fixture(scope="module")
def mixed(net: nn.Module) -> Any:
    return quantize(net, CONFIG, [IMAGES], EXAMPLE, precisions=MIXED).model


def weights_of(node: Any) -> np.ndarray:
    """The weights that an operation computes with."""
    source = node.input_value(1).get_node()
    if source.get_type_name() == "Constant":
        return np.asarray(source.data)
    numbers = source.input_value(0).get_node().input_value(0).get_node().data
    whole: np.ndarray = numbers.astype(np.float32) * source.input_value(1).get_node().data
    return whole


def convolutions(model: Any, net: nn.Module) -> dict[str, Any]:
    """The network's convolutions by the path of the module, found by nothing but their weights, norms folded in."""
    found: dict[str, Any] = {}
    nodes = [node for node in model.get_ops() if node.get_type_name() == "Convolution"]
    for path, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            own: Any = net.get_submodule(path.replace("conv", "bn") if "conv" in path else f"{path[:-1]}1")
            wanted = fuse_conv_bn_weights(
                module.weight, None, own.running_mean, own.running_var, own.eps, own.weight, own.bias
            )[0].detach().numpy()  # fmt: skip
            alike = [node for node in nodes if weights_of(node).shape == wanted.shape]
            found[path] = min(alike, key=lambda node: float(np.abs(weights_of(node) - wanted).max()))
            assert np.abs(weights_of(found[path]) - wanted).max() < 0.02 * np.abs(wanted).max()
    assert len({node.get_friendly_name() for node in found.values()}) == len(found) == len(nodes)
    return found


def scales(node: Any) -> int:
    """How many scales its INT8 weights have; 0: they are not INT8."""
    source = node.input_value(1).get_node()
    return 0 if source.get_type_name() == "Constant" else source.input_value(1).get_node().data.size


def predict(model: Any, images: Tensor) -> Tensor:
    return run_network(compile_network(model, threads=1).create_infer_request(), images, 1)


def test_each_block_has_the_precision_that_it_is_given(net: nn.Module, mixed: Any) -> None:
    for path, node in convolutions(mixed, net).items():
        block = ".".join(path.split(".")[:2]) if path != "conv1" else ""
        quantized = node.input_value(0).get_node().get_type_name() == "FakeQuantize"
        wanted = {"fp32": 0, "int8_tensor": 1, "int8_channel": node.input_value(1).shape[0]}[MIXED[block]]
        assert (scales(node), quantized) == (wanted, MIXED[block] != "fp32"), path


def test_a_block_in_fp32_is_the_float_block(net: nn.Module, mixed: Any) -> None:
    """Cut out of the quantized network, with the same inputs."""
    model = mixed.clone()
    entry = convolutions(model, net)["layer1.1.conv1"].input_value(0)
    images = openvino.opset13.parameter(entry.shape, np.float32)
    for target in entry.get_target_inputs():
        target.replace_source_output(images.output(0))
    relus = [
        node
        for node in model.get_ordered_ops()
        if node.get_friendly_name().startswith("__module.layer1.1/aten::relu")
    ]
    alone = openvino.Model([relus[-1].output(0)], [images])
    assert not any(node.get_type_name() == "FakeQuantize" for node in alone.get_ops())
    x = torch.randn(4, *entry.shape[1:], generator=torch.Generator().manual_seed(1))
    expected = run(net.get_submodule("layer1.1"), (x,))
    assert (predict(alone, x) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_the_runtime_computes_as_it_is_told(net: nn.Module, mixed: Any) -> None:
    runtime = compile_network(mixed, threads=1).get_runtime_model()
    kinds = Counter(
        str(node.get_rt_info()["runtimePrecision"].value)
        for node in runtime.get_ordered_ops()
        if str(node.get_rt_info()["layerType"].value) == "Convolution"
    )
    whole = sum(scales(node) == 0 for node in convolutions(mixed, net).values())
    assert whole == 5
    assert kinds["f32"] == whole
    assert sum(kinds.values()) - whole == sum(count for kind, count in kinds.items() if "8" in kind)


def test_all_alike_is_the_usual_network(net: nn.Module) -> None:
    images = IMAGES[:4]
    expected = run(net, (images,))
    errors = {}
    for precision in PRECISIONS:
        made = quantize(net, CONFIG, [IMAGES], EXAMPLE, precisions={"": precision})
        assert made.precision == ("f32" if precision == "fp32" else "int8")
        found = predict(made.model, images)
        errors[precision] = float((found - expected).abs().max() / expected.abs().max())
        if precision == "int8_channel":
            assert torch.equal(found, predict(quantize(net, CONFIG, [IMAGES], EXAMPLE).model, images))
    assert errors["fp32"] < 1e-4 < errors["int8_channel"] < errors["int8_tensor"] < 0.5


def test_weights_and_biases_are_those_of_a_network_that_is_all_alike(net: nn.Module) -> None:
    """Also where both kinds of weights are in one network, which NNCF cannot make at once."""

    def biases(precisions: Precisions) -> dict[str, np.ndarray]:
        model = quantize(net, CONFIG, [IMAGES], EXAMPLE, precisions=precisions).model
        found = {}
        for path, node in convolutions(model, net).items():
            (reader,) = (target.get_node() for target in node.output(0).get_target_inputs())
            assert reader.get_type_name() == "Add"
            found[path] = np.hstack([reader.input_value(1).get_node().data.ravel(), weights_of(node).ravel()])
        return found

    tensor, channel = biases({"": "int8_tensor"}), biases({"": "int8_channel"})
    both = biases({"": "int8_channel", "layer1": "int8_tensor"})
    for path, own in both.items():
        wanted, other = (tensor, channel) if path.startswith("layer1") else (channel, tensor)
        np.testing.assert_allclose(own, wanted[path], rtol=1e-5, atol=1e-6)
        assert not np.allclose(own, other[path], rtol=1e-5, atol=1e-6)


def test_the_same_precisions_give_the_same_network(net: nn.Module, mixed: Any, tmp_path: Path) -> None:
    again = quantize(net, CONFIG, [IMAGES], EXAMPLE, precisions=MIXED).model
    digests = [
        export(Quantized(model=model), OpenVinoIR(), tmp_path / f"{place}.xml", EXAMPLE).digest
        for place, model in enumerate((mixed, again))
    ]
    assert digests[0] == digests[1]
    assert "layer1.1" in (tmp_path / "0.xml").read_text()  # what is not quantized is written down


class Untrained(nn.Sequential):
    """Norms shift nothing, so that OpenVINO drops them: what makes `1` and what reads it have no operation between."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8),
            nn.Sequential(nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12)),
            nn.Sequential(nn.Conv2d(12, 16, 3, bias=False), nn.BatchNorm2d(16)),
            nn.Sequential(nn.Conv2d(16, 4, 1, bias=False), nn.BatchNorm2d(4)),
        )  # fmt: skip


def test_it_is_known_which_module_made_an_operation_without_name() -> None:
    precisions: Precisions = {"2": "fp32", "3": "int8_tensor", "4": "fp32"}
    model, operations = convert_mixed(Untrained().eval(), torch.zeros(1, 3, 8, 8), precisions)
    found = {
        int(node.input_value(1).shape[0]): operations[node.get_friendly_name()]
        for node in model.get_ops()
        if node.get_type_name() == "Convolution"
    }
    assert found == {8: "int8_channel", 12: "fp32", 16: "int8_tensor", 4: "fp32"}


def test_depthwise_convolutions_and_products_too() -> None:
    example, images = torch.zeros(1, 3, 16, 16), torch.randn(4, 3, 16, 16)
    precisions: Precisions = {"block": "int8_tensor", "head": "fp32"}
    model = quantize(small_net(), CONFIG, [images], example, precisions=precisions).model
    kinds = ("Convolution", "GroupConvolution", "MatMul")
    found = Counter((n.get_type_name(), scales(n)) for n in model.get_ops() if n.get_type_name() in kinds)
    # what has no precision, the stem, is INT8 as usual
    assert found == {
        ("Convolution", 16): 1,
        ("GroupConvolution", 1): 1,
        ("Convolution", 1): 1,
        ("MatMul", 0): 1,
    }


def drawn(net: nn.Module, example: Tensor, seed: int) -> Precisions:
    """Random precisions of the parts of a network."""
    graph = trace(net, (example,))
    rng = np.random.default_rng(seed)
    parts = parts_of(graph, derive_space(graph))
    return {part: PRECISIONS[int(rng.integers(3))] for part in parts}


def lasting_name(node: Any) -> str:
    """A name that is the same whenever a network is converted, which those that OpenVINO makes up are not."""
    if names := node.output(0).get_names():
        return min(names)
    if "::" in node.get_friendly_name():
        return node.get_friendly_name()
    (reader,) = (target.get_node() for target in node.output(0).get_target_inputs())  # its bias
    return f"before {lasting_name(reader)}"


def treated(model: Any) -> dict[tuple[str, int], object]:
    """What is done at each place where an operation reads an activation, and how many scales its weights have."""
    nodes = {node.get_friendly_name(): node for node in model.get_ops()}
    return {
        (lasting_name(nodes[name]), port): (
            read.treatment.kind, scales(nodes[name]) if placing._has_weights(nodes[name]) else None,
        )
        for (name, port), read in placing._reads(model).items()
        if read.kind != "Result"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (tiny_resnet, (1, 1, 32, 32)),
        (lambda: resnet18(weights=None, num_classes=4), (1, 3, 64, 64)),
        (lambda: mobilenet_v3_small(weights=None, num_classes=4), (1, 3, 64, 64)),
    ],
    ids=["tiny_resnet", "resnet18", "mobilenet_v3_small"],
)
def test_networks_for_timing_are_quantized_where_nncf_quantizes_them(
    make: Any, shape: tuple[int, ...]
) -> None:
    """Learnt from one draw of precisions, placed for the same once more, and for another one, perhaps with more to learn."""
    net, example, config = make().eval(), torch.zeros(shape), NncfPTQ(bias_correction="none")
    images = torch.randn(2, *shape[1:], generator=torch.Generator().manual_seed(0))
    placement = Placement(config)
    for seed in (0, 1):
        precisions = drawn(net, example, seed)
        by_nncf = quantize(net, config, [images], example, precisions=precisions).model
        wanted = treated(by_nncf)
        placement.quantize(net, example, precisions)
        before = placement.by_nncf
        placed = placement.quantize(net, example, precisions).model
        assert placement.by_nncf == before
        assert treated(placed) == wanted
        assert len(wanted) > 15
        assert len({kind for kind, _ in wanted.values()}) > 2


def test_all_in_fp32_is_not_quantized(net: nn.Module) -> None:
    placement = Placement(CONFIG)
    made = placement.quantize(net, EXAMPLE, {"": "fp32"})
    assert (made.precision, placement.by_nncf) == ("f32", 0)
    assert not any(node.get_type_name() == "FakeQuantize" for node in made.model.get_ops())


def test_what_does_not_fit_is_said(net: nn.Module) -> None:
    with pytest.raises(ExportError, match=r"the network has no module 'layer1\.2'"):
        quantize(net, CONFIG, [IMAGES], EXAMPLE, precisions={"": "fp32", "layer1.2": "int8_tensor"})
    with pytest.raises(ExportError, match="layer1: no precision 'int4'"):
        quantize(net, CONFIG, [IMAGES], EXAMPLE, precisions={"layer1": "int4"})  # type: ignore[dict-item]


def test_a_quantizer_that_cannot_mix_is_said(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    class Alike(QuantizeConfig):
        pass

    monkeypatch.setattr("bnas.quantize.config.QUANTIZERS", dict(QUANTIZERS))

    @quantizer(Alike)
    def alike(module: nn.Module, config: Alike, calibration: Any, example: Tensor) -> Any:
        raise AssertionError("must not be asked")

    with pytest.raises(ExportError, match="Alike quantizes all of a network alike, not by parts"):
        quantize(net, Alike(), [IMAGES], EXAMPLE, precisions=MIXED)
