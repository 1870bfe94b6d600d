from __future__ import annotations

import copy
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import rich
import torch
from small_networks import patterns, small_net
from torch import Tensor, nn

import bnas
from bnas.errors import ConfigError, ExportError
from bnas.export import OpenVinoIR, export, openvino_runtime, verify
from bnas.plain import from_plain, to_plain
from bnas.quantize import NncfPTQ, QuantizeConfig, quantize

openvino = openvino_runtime.openvino()  # the package itself, without its telemetry
EXAMPLE = torch.zeros(1, 3, 16, 16)


def kinds(model: Any) -> Counter[str]:
    return Counter(operation.get_type_name() for operation in model.get_ops())


def int8_constants(model: Any) -> list[int]:
    return [
        len(op.get_data())
        for op in model.get_ops()
        if op.get_type_name() == "Constant" and op.get_element_type() == openvino.Type.i8
    ]


def test_int8_weights_and_activations_and_the_same_classes(tmp_path: Path) -> None:
    net = small_net()
    quantized = quantize(net, NncfPTQ(samples=32), [patterns(16), patterns(16, seed=1)], EXAMPLE)
    assert quantized.precision == "int8"
    assert kinds(quantized.model)["FakeQuantize"] >= 3
    assert sorted(int8_constants(quantized.model)) == [
        4,
        16,
        16,
        16,
    ]  # per output channel: head, stem and block
    artefact = export(quantized, OpenVinoIR(), tmp_path / "int8.xml", EXAMPLE)
    assert artefact.precision == "int8"
    checked = verify(artefact, net, [patterns(64, seed=2)], OpenVinoIR(min_agreement_percent=90))
    assert checked.largest_difference is not None
    assert 1e-4 < checked.largest_difference < 0.2  # it is INT8 that runs, and it is the same network


def test_an_int8_file_is_smaller_and_takes_any_batch(tmp_path: Path) -> None:
    net = small_net(width=64)
    quantized = quantize(net, NncfPTQ(samples=8), [patterns(8)], EXAMPLE)
    int8 = export(quantized, OpenVinoIR(batch=4), tmp_path / "int8.xml", EXAMPLE)
    export(net, OpenVinoIR(), tmp_path / "f32.xml", EXAMPLE)
    assert (tmp_path / "int8.bin").stat().st_size < 0.6 * (tmp_path / "f32.bin").stat().st_size
    assert str(openvino.Core().read_model(int8.path).inputs[0].partial_shape) == "[4,3,16,16]"
    assert (
        str(quantized.model.inputs[0].partial_shape) == "[1,3,16,16]"
    )  # the quantized network is not touched


def test_the_same_images_give_the_same_network(tmp_path: Path) -> None:
    digests = [
        export(
            quantize(small_net(), NncfPTQ(samples=8), [patterns(8)], EXAMPLE),
            OpenVinoIR(),
            tmp_path / name,
            EXAMPLE,
        ).digest
        for name in ("a.xml", "b.xml")
    ]
    assert digests[0] == digests[1]


def test_as_many_images_as_asked_for_are_used() -> None:
    taken = []

    def one_by_one() -> object:
        for image in patterns(20):
            taken.append(1)
            yield image[None]

    quantize(small_net(), NncfPTQ(samples=5), one_by_one(), EXAMPLE)
    assert len(taken) == 5


def test_what_the_activations_range_over_is_found_on_the_images() -> None:
    def highest(images: Tensor) -> float:
        quantized = quantize(small_net(), NncfPTQ(samples=8), [images], EXAMPLE)
        ops = {op.get_friendly_name(): op for op in quantized.model.get_ops()}
        return float(ops["x/fq_output_0/input_high"].get_data().max())

    small, large = highest(patterns(8)), highest(10 * patterns(8))
    assert small == pytest.approx(float(patterns(8).abs().max()), rel=0.35)
    assert large == pytest.approx(10 * small, rel=1e-3)


def test_bias_correction_can_be_chosen() -> None:
    def biases(kind: str) -> list[float]:
        config = from_plain(NncfPTQ, {"samples": 16, "bias_correction": kind})
        model = quantize(small_net(), config, [patterns(16)], EXAMPLE).model
        return [
            float(op.get_data().sum())
            for op in model.get_ordered_ops()
            if op.get_type_name() == "Constant" and tuple(op.shape) == (1, 16, 1, 1)
        ]

    assert biases("fast") != biases("none")
    assert biases("full") != biases("none")


def test_the_module_and_the_logs_are_left_as_they_were(capfd: pytest.CaptureFixture[str]) -> None:
    net, level = small_net(), logging.getLogger("nncf").level
    before = copy.deepcopy(net.state_dict())
    quantize(net, NncfPTQ(samples=4), [patterns(4)], EXAMPLE)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not rich.get_console().quiet
    assert logging.getLogger("nncf").level == level
    assert capfd.readouterr() == ("", "")


def test_no_images_and_what_cannot_be_converted_are_said() -> None:
    with pytest.raises(ExportError, match="no calibration images"):
        quantize(small_net(), NncfPTQ(), [], EXAMPLE)
    with pytest.raises(ExportError, match="training mode"):
        quantize(small_net().train(), NncfPTQ(), [patterns(1)], EXAMPLE)
    with pytest.raises(ExportError, match="calibration image 0 is 1×8×8, the network takes 3×16×16"):
        quantize(small_net(), NncfPTQ(), [torch.zeros(2, 1, 8, 8)], EXAMPLE)


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"quantize\.samples: expected 1 or more, got 0"):
        from_plain(QuantizeConfig, {"kind": "nncf_ptq", "samples": 0}, "quantize")
    with pytest.raises(ConfigError, match=r"quantize\.preset: .*'performance' or 'mixed'"):
        from_plain(QuantizeConfig, {"kind": "nncf_ptq", "preset": "mix"}, "quantize")
    config = NncfPTQ(samples=7, preset="performance", bias_correction="none")
    assert from_plain(QuantizeConfig, to_plain(config)) == config


def test_a_quantizer_that_is_not_there_is_said() -> None:
    class Unknown(QuantizeConfig):
        pass

    with pytest.raises(ExportError, match="no quantizer for Unknown; known: Aimet, NncfPTQ"):
        bnas.quantize(nn.Identity(), Unknown(), [], EXAMPLE)
