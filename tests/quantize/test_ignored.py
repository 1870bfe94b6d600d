from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import patterns, small_net
from torch import Tensor, nn

from bnas import progress
from bnas.errors import ExportError
from bnas.export import OpenVinoIR, export
from bnas.export.openvino_ir import convert_with_modules
from bnas.quantize import NncfPTQ, quantize
from bnas.quantize.ignored import ignored_operations
from bnas.quantize.nncf_options import Ignored
from bnas.quantize.overflow import say_once
from bnas.quantize.placement import Placement

EXAMPLE = torch.zeros(1, 3, 16, 16)


class Normalizing(nn.Module):
    """A network that normalizes images by itself, and adds twice; NNCF 2 calls these `__sub___0`, `__truediv___0`."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_net()
        self.scale = nn.Parameter(torch.full((1, 3, 1, 1), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.scale) / (x.abs() + self.scale)
        y = x + self.scale
        y = y + x
        return self.net(y)


@pytest.fixture(scope="module")
def normalizing() -> tuple[nn.Module, Any, dict[str, str]]:
    net = Normalizing().eval()
    return net, *convert_with_modules(net, EXAMPLE)


def types(model: Any, names: frozenset[str]) -> list[str]:
    """The types of what computes among the operations of those names, in order."""
    kinds = {node.get_friendly_name(): node.get_type_name() for node in model.get_ordered_ops()}
    return [kind for name, kind in kinds.items() if name in names]


def found(given: tuple[nn.Module, Any, dict[str, str]], **rules: Any) -> list[str]:
    net, model, modules = given
    return types(model, ignored_operations(model, modules, net, EXAMPLE, Ignored(**rules)))


def test_rules_about_modules_and_operations(normalizing: Any) -> None:
    assert found(normalizing, names=("net.head.3",)) == ["MatMul", "Add"]
    assert found(normalizing, types=("Hardswish",)) == ["HSwish"] == found(normalizing, types=("HSwish",))
    assert found(normalizing, patterns=(r".*\.block\.[02]",))[-1] == "HSwish"
    assert set(found(normalizing, types=("Linear", "HSwish"))) == {"MatMul", "Add", "HSwish"}
    everything = found(normalizing, names=("net",))
    assert everything.count("Convolution") == 2
    assert everything.count("GroupConvolution") == 1
    assert "Divide" not in everything


def test_a_batch_norm_goes_with_the_convolution_it_is_folded_into(normalizing: Any) -> None:
    for path in ("net.stem.0", "net.stem.1"):
        assert found(normalizing, names=(path,)) == ["Convolution", "Add"]
    assert found(normalizing, names=("net.block.0",)) == ["GroupConvolution", "Add"]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("Net/SmallNet[net]/Sequential[stem]/NNCFConv2d[0]/conv2d_0", ["Convolution", "Add"]),
        ("Net/SmallNet[net]/Sequential[stem]", ["Convolution", "Add", "Relu"]),
        ("Net/SmallNet[net]/Sequential[head]/NNCFLinear[3]/linear_0", ["MatMul", "Add"]),
        ("Normalizing/__sub___0", ["Add"]),  # of the negative number, to OpenVINO
        ("Normalizing/__truediv___0", ["Divide"]),
        ("Normalizing/__add___2", ["Add"]),
        ("{re}.*__add___[0-1]", ["Add", "Add", "Add"]),
        (r"{re}.*Sequential\[head\].*", None),
        ("{re}NNCFLinear", ["MatMul", "Add"]),
        ("{re}hardswish", ["HSwish"]),
    ],
)
def test_names_as_nncf_2_wrote_them(normalizing: Any, scope: str, expected: list[str] | None) -> None:
    kinds = found(normalizing, scopes=(scope,))
    if expected is None:
        assert kinds[-2:] == ["MatMul", "Add"]
        assert len(kinds) > 2  # the pooling before them, too
    else:
        assert kinds == expected


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        (
            {"names": ("net.stemm",)},
            r"ignored\.names: 'net\.stemm' names no operation.*did you mean 'net\.stem'",
        ),
        ({"types": ("Hardswich",)}, r"ignored\.types: .*did you mean 'Hardswish'"),
        ({"patterns": ("stem",)}, r"ignored\.patterns: 'stem' names no operation.*validate=false"),
        ({"patterns": ("(",)}, r"ignored\.patterns: '\(' is no regular expression"),
        ({"scopes": ("Net/SmallNet[met]/relu_0",)}, r"no module 'met'; did you mean 'net'"),
        ({"scopes": ("conv1",)}, r"'conv1' is no name of NNCF 2, as"),
        ({"scopes": ("{re}(",)}, r"'\{re\}\(' is no regular expression"),
        ({"scopes": ("{re}nothing",)}, r"names no operation"),
    ],
)
def test_rules_that_name_nothing_are_errors(normalizing: Any, rules: dict[str, Any], text: str) -> None:
    with pytest.raises(ExportError, match=text) as caught:
        found(normalizing, **rules)
    assert str(caught.value).startswith(f"quantize.ignored.{next(iter(rules))}: ")


def test_what_a_network_does_not_compute_is_said_and_needs_no_exception(
    normalizing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    say_once.cache_clear()
    progress.enable()
    try:
        assert found(normalizing, scopes=("RetinaNet/interpolate_0",)) == []
        assert found(normalizing, names=("nothing",), validate=False) == []
    finally:
        progress.enable(False)
    first, second = capsys.readouterr().out.splitlines()
    assert "'RetinaNet/interpolate_0': the network computes no such thing there" in first
    assert "'nothing' names no operation of the network" in second


def test_rules_about_a_block_that_a_subnet_skips_are_no_errors() -> None:
    net = small_net()
    net.block = nn.Identity().eval()
    model, modules = convert_with_modules(net, EXAMPLE)
    assert not ignored_operations(model, modules, net, EXAMPLE, Ignored(names=("block.0",)))
    scope = "SmallNet/Sequential[block]/NNCFConv2d[0]/conv2d_0"
    assert not ignored_operations(model, modules, net, EXAMPLE, Ignored(scopes=(scope,)))


def test_ignored_operations_stay_fp32_in_the_file_too(tmp_path: Path) -> None:
    config = NncfPTQ(samples=4, ignored=Ignored(names=("stem.0", "head")))
    digests = []
    for name in ("a.xml", "b.xml"):
        quantized = quantize(small_net(), config, [patterns(4)], EXAMPLE)
        digests.append(export(quantized, OpenVinoIR(), tmp_path / name, EXAMPLE).digest)
    assert digests[0] == digests[1]
    numbers = [
        list(node.shape)
        for node in quantized.model.get_ordered_ops()
        if node.get_type_name() == "Constant" and node.get_element_type().get_type_name() == "i8"
    ]
    assert numbers == [[16, 1, 1, 3, 3], [16, 16, 1, 1]]  # those of the block alone


def test_networks_for_timing_have_the_same_operations_in_fp32() -> None:
    place = Placement(NncfPTQ(ignored=Ignored(names=("head",)), bias_correction="none"))
    for _ in range(2):
        model = place.quantize(small_net(), EXAMPLE).model
        matmul = next(node for node in model.get_ops() if node.get_type_name() == "MatMul")
        assert matmul.input_value(1).get_node().get_type_name() == "Constant"
    assert place.by_nncf == 1


def test_a_configuration_of_nncf_2_is_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {
        "input_info": {"sample_size": [1, 3, 224, 224]},
        "target_device": "CPU",
        "compression": {
            "algorithm": "quantization",
            "overflow_fix": "disable",
            "ignored_scopes": ["SmallNet/__sub___0", "SmallNet/Sequential[head]/NNCFLinear[3]/linear_0"],
            "initializer": {"range": {"num_init_samples": 3840}},
            "weights": {"mode": "symmetric", "signed": True, "per_channel": False},
            "activations": {"mode": "symmetric"},
        },
    }
    path = tmp_path / "nncf.json"
    path.write_text(json.dumps(data))
    say_once.cache_clear()
    progress.enable()
    try:
        quantized = quantize(small_net(), NncfPTQ(nncf_config=str(path)), [patterns(4)], EXAMPLE)
    finally:
        progress.enable(False)
    scales = {
        node.input_value(1).get_node().data.size
        for node in quantized.model.get_ops()
        if node.get_type_name() == "Multiply" and node.input_value(0).get_node().get_type_name() == "Convert"
    }
    assert scales == {1}
    matmul = next(node for node in quantized.model.get_ops() if node.get_type_name() == "MatMul")
    assert matmul.input_value(1).get_node().get_type_name() == "Constant"
    said = capsys.readouterr().out
    assert "sample_size is [1, 3, 224, 224]; the network takes [1, 3, 16, 16]" in said
    assert "computes no such thing" in said
