"""The options on real networks: what is checked are the numbers in the FakeQuantize operations that come out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import patterns, small_net

from bnas import progress
from bnas.errors import ConfigError, ExportError
from bnas.export import convert
from bnas.export.openvino_ir import save
from bnas.export.openvino_runtime import without_telemetry
from bnas.plain import from_plain, to_plain
from bnas.quantize import (
    Ignored,
    NncfPTQ,
    NncfQAT,
    OnnxQdq,
    QuantizeConfig,
    RangeEstimator,
    TensorOptions,
    overflow,
    quantize,
)
from bnas.quantize.nncf_ptq import _nncf
from bnas.quantize.overflow import say_once

EXAMPLE = torch.zeros(1, 3, 16, 16)
IMAGES = patterns(8) * torch.tensor([0.5, 0.7, 0.9, 1, 1.1, 1.2, 1.4, 3]).reshape(8, 1, 1, 1)
INPUT = "x"


@pytest.fixture(autouse=True)
def _a_cpu_with_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overflow, "saturates", lambda: False)
    say_once.cache_clear()


@dataclass(frozen=True)
class Range:
    """A quantizer of an activation."""

    levels: int
    low: np.ndarray
    high: np.ndarray


@cache
def quantized(**options: Any) -> Any:
    return quantize(small_net(), NncfPTQ(samples=8, **options), [IMAGES], EXAMPLE).model


def activations(model: Any) -> dict[str, Range]:
    """The quantizers by the name of the operation whose output, or input, they are on."""
    found = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            low, high = (np.asarray(node.input_value(port).get_node().data) for port in (1, 2))
            levels = int(node.get_attributes()["levels"])
            found[node.get_friendly_name().partition("/fq_")[0]] = Range(levels, low, high)
    return found


def weights(model: Any) -> list[tuple[np.ndarray, bool, int]]:
    """Of each INT8 tensor of weights: its numbers, whether it has zero points, and how many scales."""
    found = []
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Constant" and node.get_element_type().get_type_name() == "i8":
            (reader,) = node.output(0).get_target_inputs()  # the conversion to float
            (user,) = reader.get_node().output(0).get_target_inputs()
            user = user.get_node()
            scales = int(np.prod(list(user.input_value(1).get_shape())))
            found.append((np.array(node.data), user.get_type_name() == "Subtract", scales))
    return found


def test_the_defaults_give_what_nncf_gives_by_itself(tmp_path: Path) -> None:
    nncf = _nncf()
    with without_telemetry():
        direct = nncf.quantize(
            convert(small_net(), EXAMPLE),
            nncf.Dataset([image[None].numpy() for image in IMAGES]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=8,
            fast_bias_correction=True,
            ignored_scope=None,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                disable_bias_correction=False, weights_quantization_params=None
            ),
        )
    digests = [
        save(model, tmp_path / name)[0]
        for name, model in {"a.xml": direct, "b.xml": quantized().clone()}.items()
    ]
    assert digests[0] == digests[1]


def test_symmetric_activations_have_zero_in_the_middle() -> None:
    for options in ({"preset": "performance"}, {"activations": TensorOptions(mode="symmetric")}):
        for found in activations(quantized(**options)).values():
            signed = (found.low < 0).any()
            assert found.levels == 256
            expected = -found.high * 128 / 127 if signed else 0 * found.high
            np.testing.assert_allclose(found.low, expected, rtol=1e-5)
    mixed = activations(quantized())[INPUT]
    assert abs(mixed.low + mixed.high * 128 / 127) > 0.01 * mixed.high
    overruled = quantized(preset="performance", activations=TensorOptions(mode="asymmetric"))
    assert float(activations(overruled)[INPUT].low) == pytest.approx(float(mixed.low))


def test_weights_have_a_scale_for_each_channel_or_one() -> None:
    assert sorted(count for _, _, count in weights(quantized())) == [4, 16, 16, 16]
    one = quantized(weights=TensorOptions(per_channel=False))
    assert [count for _, _, count in weights(one)] == [1, 1, 1, 1]


def test_asymmetric_weights_have_zero_points() -> None:
    assert not any(shifted for _, shifted, _ in weights(quantized()))
    found = weights(quantized(weights=TensorOptions(mode="asymmetric")))
    assert len(found) == 4
    assert all(shifted for _, shifted, _ in found)
    with pytest.raises(ConfigError, match="overflow_fix: expected disable or auto with asymmetric weights"):
        NncfPTQ(weights=TensorOptions(mode="asymmetric"), overflow_fix="enable")


@pytest.mark.parametrize(
    "options", [{"weights": TensorOptions(signed=False)}, {"activations": TensorOptions(signed=True)}]
)
def test_what_nncf_refuses_is_one_clear_error(options: dict[str, Any]) -> None:
    (group,) = options
    with pytest.raises(ExportError, match=rf"target_device=any: {group}\.signed=\w+; leave null") as caught:
        quantized(**options)
    assert "\n" not in str(caught.value)


LOW, HIGH = (getattr(IMAGES.flatten(1), name)(dim=1).values.numpy() for name in ("min", "max"))
TENTHS = np.quantile(IMAGES.flatten(1).numpy(), [0.1, 0.9], axis=1)


@pytest.mark.parametrize(
    ("by", "low", "high"),
    [
        ("minmax", LOW.min(), HIGH.max()),
        ("mean_minmax", LOW.mean(), HIGH.mean()),
        ("median_minmax", np.median(LOW), np.median(HIGH)),
        ("percentile", TENTHS[0].min(), TENTHS[1].max()),
        ("mean_percentile", TENTHS[0].mean(), TENTHS[1].mean()),
    ],
)
def test_ranges_of_activations_are_those_of_the_estimator(by: Any, low: float, high: float) -> None:
    estimator = RangeEstimator(by=by, low_percent=10, high_percent=90)
    found = activations(quantized(activations=TensorOptions(range=estimator)))[INPUT]
    level = float(high - low) / 255  # the range is moved until zero is one of the levels
    assert float(found.low) == pytest.approx(low, abs=level)
    assert float(found.high) == pytest.approx(high, abs=level)


def test_histograms_and_averages_without_outliers_are_other_ranges() -> None:
    plain = float(activations(quantized())[INPUT].high)
    for by in ("histogram", "mean_no_outliers", "median_no_outliers"):
        estimator = RangeEstimator(by=by, low_percent=20, high_percent=80)
        found = float(activations(quantized(activations=TensorOptions(range=estimator)))[INPUT].high)
        assert 0 < found < 1.5 * float(HIGH.max())
        assert found != pytest.approx(plain, rel=1e-3)


def test_ranges_of_weights_can_leave_out_the_largest() -> None:
    estimator = RangeEstimator(by="percentile", low_percent=10, high_percent=90)
    model = quantized(weights=TensorOptions(range=estimator), overflow_fix="disable")
    cut = [np.mean(np.abs(numbers) == 127) for numbers, _, _ in weights(model)]
    assert min(cut) > 0.1  # as many as are beyond, at either end
    with pytest.raises(
        ConfigError, match=r"weights\.range\.by: NNCF makes histograms of tensors with one scale"
    ):
        NncfPTQ(weights=TensorOptions(range=RangeEstimator(by="histogram")))


def largest_numbers(model: Any) -> list[int]:
    """The largest number of each tensor of weights; depthwise ones, which NNCF does not treat, are left out."""
    return [int(np.abs(numbers.astype(int)).max()) for numbers, _, _ in weights(model) if numbers.ndim != 5]


def test_the_overflow_fix_uses_half_of_the_range() -> None:
    def largest(fix: Any) -> list[int]:
        return largest_numbers(quantized(overflow_fix=fix))

    assert max(largest("enable")) <= 64
    assert min(largest("disable")) > 120
    first, *others = sorted(largest("first_layer_only"))
    assert first <= 64
    assert min(others) > 120
    assert largest("auto") == largest("first_layer_only")


def test_where_int8_saturates_all_weights_are_treated_and_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(overflow, "saturates", lambda: True)
    progress.enable()
    try:
        model = quantize(small_net(), NncfPTQ(samples=4), [IMAGES], EXAMPLE).model
        quantize(small_net(), NncfPTQ(samples=4), [IMAGES], EXAMPLE)
    finally:
        progress.enable(False)
    assert max(largest_numbers(model)) <= 64
    (line,) = capsys.readouterr().out.splitlines()
    assert "neither VNNI nor AMX" in line
    assert "overflow_fix=enable" in line


def test_target_devices_and_outputs() -> None:
    plain = activations(quantized())
    assert activations(quantized(target_device="gpu")).keys() == plain.keys()
    assert (
        activations(quantized(target_device="cpu_spr")).keys() < plain.keys()
    )  # one input of a sum is enough
    (last,) = activations(quantized(quantize_outputs=True)).keys() - plain.keys()
    assert "linear" in last


def test_transformers_are_smoothed() -> None:
    def smoothed(**options: Any) -> bool:
        return any("smooth" in node.get_friendly_name() for node in quantized(**options).get_ops())

    assert smoothed(model_type="transformer", smooth_quant_alpha=0.5)
    assert not smoothed(model_type="transformer", smooth_quant_alpha=-1)
    with pytest.raises(ConfigError, match=r"smooth_quant_alpha: .*model_type=transformer"):
        NncfPTQ(smooth_quant_alpha=0.5)
    with pytest.raises(ConfigError, match="smooth_quant_alpha: expected 0 to 1, or -1, got 2"):
        NncfPTQ(smooth_quant_alpha=2, model_type="transformer")


def test_options_are_checked_and_written_only_where_they_are_set() -> None:
    plain = to_plain(NncfPTQ())
    assert plain == {
        "samples": 300,
        "preset": "mixed",
        "bias_correction": "fast",
        "kind": "nncf_ptq",
    }  # as runs before these options had it
    data = {"kind": "nncf_ptq", "weights": {"range": {"by": "minmax"}}, "ignored": {"names": ["head"]}}
    config = from_plain(QuantizeConfig, data, "quantize")
    assert from_plain(QuantizeConfig, to_plain(config)) == config
    for data, text in {
        '{"weights": {"bits": 4}}': r"quantize\.weights\.bits: expected 8, got 4",
        '{"weights": {"range": {"by": "median"}}}': r"quantize\.weights\.range",
        '{"activations": {"range": {"by": "percentile", "low_percent": 50, "high_percent": 50}}}': "0 ≤ low_percent",
        '{"bn_adaptation_samples": 5}': "nncf_ptq_torch and quantize=nncf_qat",
        '{"bn_adaptation_samples": -1}': "expected 0 or more",
        '{"precisions": ["fp32", "int8_tensor"], "weights": {"per_channel": true}}': r"weights\.per_channel: expected null",
    }.items():
        with pytest.raises(ConfigError, match=text):
            from_plain(QuantizeConfig, {"kind": "nncf_ptq", **json.loads(data)}, "quantize")


def test_what_decides_the_time_is_neither_ranges_nor_the_way_they_are_found() -> None:
    usual = NncfPTQ().timed
    minmax = TensorOptions(range=RangeEstimator(by="minmax"))
    for same in (
        NncfPTQ(samples=7, bias_correction="full", weights=minmax, activations=minmax),
        NncfQAT(epochs=1.0, lr=0.1),
        OnnxQdq(),
    ):
        assert same.timed == usual
    others = (
        NncfPTQ(preset="performance"),
        NncfPTQ(weights=TensorOptions(per_channel=False)),
        NncfPTQ(ignored=Ignored(types=("Conv2d",))),
        NncfPTQ(precisions=("fp32", "int8_channel")),
    )
    told = [own.timed for own in others]
    assert all(one != usual for one in told)
    assert len({str(one) for one in told}) == len(told)
